// The picture of the explorer: two images under one swipe line, maps beside them, one zoom for all.

const SHELL = `
  <div class="status" role="status" aria-live="polite"></div>
  <div class="body">
    <figure class="main">
      <div class="stage" tabindex="0" role="group" aria-label="Fused images; arrow keys move the
        view when it is zoomed, + and - zoom, 0 resets">
        <canvas data-panel="left"></canvas>
        <div class="clip"><canvas data-panel="right"></canvas></div>
        <div class="line"></div>
        <span class="tag left">left</span><span class="tag right">right</span>
      </div>
      <label>swipe <input class="swipe" type="range" min="0" max="100" value="50"></label>
      <label>zoom <input class="zoom" type="range" min="1" max="8" step="0.25" value="1"></label>
    </figure>
    <div class="table"></div>
  </div>
  <div class="maps"></div>`;

function render({ model, el }) {
  el.classList.add("fusionlib-explorer");
  el.innerHTML = SHELL;
  const find = (selector) => el.querySelector(selector);
  const stage = find(".stage");
  const view = { zoom: 1, x: 0, y: 0 }; // x, y: the left and upper border, as parts of the image
  const drawn = {}; // panel -> stamp of what it shows
  let newest = 0;

  function showView() {
    const most = 1 - 1 / view.zoom;
    view.x = Math.min(Math.max(view.x, 0), most);
    view.y = Math.min(Math.max(view.y, 0), most);
    const shift = `translate(${-100 * view.zoom * view.x}%, ${-100 * view.zoom * view.y}%)`;
    for (const canvas of el.querySelectorAll("canvas")) {
      canvas.style.transform = `${shift} scale(${view.zoom})`;
      canvas.style.imageRendering = view.zoom > 2 ? "pixelated" : "auto";
    }
    find(".zoom").value = view.zoom;
    el.classList.toggle("zoomed", view.zoom > 1);
  }

  // What lies at (x, y), parts of the window, stays there.
  function zoomTo(zoom, x = 0.5, y = 0.5) {
    zoom = Math.min(Math.max(zoom, 1), 8);
    view.x += x / view.zoom - x / zoom;
    view.y += y / view.zoom - y / zoom;
    view.zoom = zoom;
    showView();
  }

  function swipeTo(percent) {
    percent = Math.min(Math.max(percent, 0), 100);
    find(".swipe").value = percent;
    find(".clip").style.clipPath = `inset(0 0 0 ${percent}%)`;
    find(".line").style.left = `${percent}%`;
  }

  // Pictures are decoded first and drawn together, so that nothing flickers.
  async function showPanels() {
    const panels = model.get("panels").filter((panel) => panel.stamp !== drawn[panel.name]);
    const mine = ++newest;
    const bitmaps = await Promise.all(
      panels.map((panel) => panel.png && createImageBitmap(new Blob([panel.png]))),
    );
    if (mine !== newest) return;
    panels.forEach((panel, i) => {
      draw(panel, bitmaps[i]);
      bitmaps[i]?.close();
      drawn[panel.name] = panel.stamp;
    });
    showView();
    el.dataset.frame = mine;
  }

  function showTable() {
    find(".table").innerHTML = model.get("table");
  }

  function draw(panel, bitmap) {
    const canvas = find(`canvas[data-panel="${panel.name}"]`) ?? addMap(panel.name);
    const figure = canvas.closest(".map");
    if (bitmap) {
      if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
        canvas.width = bitmap.width;
        canvas.height = bitmap.height;
      }
      const area = canvas.closest(".stage, .window").style;
      area.setProperty("--ratio", bitmap.width / bitmap.height);
      canvas.getContext("2d").drawImage(bitmap, 0, 0);
    } else {
      canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    }
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", panel.title);
    if (!figure) return;
    figure.classList.toggle("empty", !bitmap);
    figure.querySelector("figcaption").textContent = panel.title;
    const scale = figure.querySelector(".scale");
    scale.hidden = !panel.colours;
    scale.style.setProperty("--colours", panel.colours);
    scale.dataset.low = panel.low;
    scale.dataset.high = panel.high;
  }

  function addMap(name) {
    const figure = document.createElement("figure");
    figure.className = "map";
    figure.innerHTML = `<figcaption></figcaption>
      <div class="window"><canvas data-panel="${name}"></canvas></div><div class="scale"></div>`;
    find(".maps").append(figure);
    pan(figure.querySelector(".window"));
    return figure.querySelector("canvas");
  }

  function pan(area) {
    let last = null;
    area.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      last = event;
      area.setPointerCapture(event.pointerId);
      follow(event);
    });
    area.addEventListener("pointermove", (event) => {
      if (event.buttons && last) follow(event);
      else last = null;
    });

    function follow(event) {
      const box = area.getBoundingClientRect();
      if (area === stage && view.zoom === 1) {
        swipeTo((100 * (event.clientX - box.left)) / box.width);
      } else {
        view.x -= (event.clientX - last.clientX) / box.width / view.zoom;
        view.y -= (event.clientY - last.clientY) / box.height / view.zoom;
        showView();
      }
      last = event;
    }

    for (const end of ["pointerup", "pointercancel"]) {
      area.addEventListener(end, () => (last = null));
    }
    // With a key, so that the wheel still scrolls the notebook.
    area.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey) return;
        event.preventDefault();
        const box = area.getBoundingClientRect();
        const x = (event.clientX - box.left) / box.width;
        const y = (event.clientY - box.top) / box.height;
        zoomTo(view.zoom * (event.deltaY < 0 ? 1.25 : 0.8), x, y);
      },
      { passive: false },
    );
    area.addEventListener("dblclick", () => zoomTo(1));
  }

  const KEYS = {
    "+": () => zoomTo(view.zoom * 1.25),
    "-": () => zoomTo(view.zoom * 0.8),
    0: () => zoomTo(1),
    ArrowLeft: () => move(-0.1, 0),
    ArrowRight: () => move(0.1, 0),
    ArrowUp: () => move(0, -0.1),
    ArrowDown: () => move(0, 0.1),
  };

  function move(x, y) {
    if (view.zoom === 1) return swipeTo(Number(find(".swipe").value) + 20 * x);
    view.x += x / view.zoom;
    view.y += y / view.zoom;
    showView();
  }

  // Keys typed here are no commands to JupyterLab.
  el.dataset.lmSuppressShortcuts = "true";
  el.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own
    if (event.target !== stage || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  find(".swipe").addEventListener("input", (event) => swipeTo(Number(event.target.value)));
  find(".zoom").addEventListener("input", (event) => zoomTo(Number(event.target.value)));
  pan(stage);

  // What is done in less than 0.3 s is neither seen nor read out.
  let waiting;
  function showState() {
    const busy = model.get("busy");
    const message = model.get("message");
    clearTimeout(waiting);
    el.classList.toggle("failed", message !== "");
    if (busy && !message) {
      waiting = setTimeout(() => {
        el.classList.add("busy");
        find(".status").textContent = "working …";
      }, 300);
    } else {
      el.classList.remove("busy");
      find(".status").textContent = message;
    }
  }

  const shown = { panels: showPanels, table: showTable, busy: showState, message: showState };
  for (const [name, show] of Object.entries(shown)) model.on(`change:${name}`, show);
  swipeTo(50);
  showState();
  showTable();
  showPanels();
  return () => {
    clearTimeout(waiting);
    for (const [name, show] of Object.entries(shown)) model.off(`change:${name}`, show);
  };
}

export default { render };
