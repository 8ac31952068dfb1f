// One slider for all frames: of each film the frame of the latest step that is not after the slider's is shown.
const slider = document.querySelector("#step");
const steps = slider ? slider.dataset.steps.split(" ").map(Number) : [];
function show() {
  const step = steps[Number(slider.value)];
  document.querySelector("#step-shown").textContent = slider.dataset.labels.split("|")[Number(slider.value)];
  for (const film of document.querySelectorAll(".film")) {
    const frames = [...film.querySelectorAll(".frame")];
    const past = frames.filter((frame) => Number(frame.dataset.step) <= step);
    const chosen = past.length ? past[past.length - 1] : frames[0];
    for (const frame of frames) frame.hidden = frame !== chosen;
  }
}
if (slider) {
  slider.addEventListener("input", show);
  for (const button of document.querySelectorAll("button[data-move]")) {
    button.addEventListener("click", () => {
      slider.value = Number(slider.value) + Number(button.dataset.move);
      show();
    });
  }
  document.querySelector(".slider").hidden = false;
  show();
}
