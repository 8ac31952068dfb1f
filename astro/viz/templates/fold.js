// Folding only: buttons that open or close all parts of a section, and everything worth printing open on paper.
for (const button of document.querySelectorAll("button[data-fold]")) {
  button.addEventListener("click", () => {
    for (const part of document.querySelectorAll(button.dataset.fold)) part.open = button.dataset.open === "yes";
  });
}
let opened = [];
window.addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details.paper:not([open])")];
  for (const part of opened) part.open = true;
});
window.addEventListener("afterprint", () => {
  for (const part of opened) part.open = false;
});
