/* The site's search runs in a Worker, and browsers start none from a file on the disk. There this stands in: the same script in a hidden
   iframe. The theme names a copy of its own on the network; this one makes the site whole without it. */
(function () {
  if (location.protocol !== "file:") return;

  class IFrameWorker extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.frame = frame;
      const inside = frame.contentWindow;
      // Answers come as messages to this page; only those of our frame are ours.
      this.listen = (event) => {
        if (event.source !== inside) return;
        const copy = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(copy);
        if (this.onmessage) this.onmessage(copy);
      };
      addEventListener("message", this.listen);
      inside.postMessage = (data) => {
        const copy = new MessageEvent("message", { data: structuredClone(data) });
        this.dispatchEvent(copy);
        if (this.onmessage) this.onmessage(copy);
      };
      inside.importScripts = (...addresses) =>
        addresses.reduce((before, address) => before.then(() => load(inside.document, address)), Promise.resolve());
      this.ready = load(inside.document, url);
    }

    postMessage(data) {
      const copy = structuredClone(data);
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data: copy })));
    }

    terminate() {
      removeEventListener("message", this.listen);
      this.frame.remove();
    }
  }

  function load(target, address) {
    return new Promise((done, failed) => {
      const script = target.createElement("script");
      script.src = new URL(address, location.href);
      script.onload = done;
      script.onerror = failed;
      target.body.append(script);
    });
  }

  window.Worker = IFrameWorker;
})();
