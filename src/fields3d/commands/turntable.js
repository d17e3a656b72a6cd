// Pictures of a field from a grid of places: dragging or the arrow keys go from one to the next. Nothing is fetched.
"use strict";

{
  const {frames, rows, columns, closed} = JSON.parse(document.getElementById("turntable").textContent);
  const root = document.querySelector("[data-turntable]");
  if (root && frames.length) {
    const shown = root.querySelector("img"), status = root.querySelector("[data-status]"), button = root.querySelector("[data-act=turn]");
    const pictures = frames.map((address) => { const picture = new Image(); picture.src = address; return picture; });
    let column = closed ? 0 : (columns - 1) / 2, row = (rows - 1) / 2, turning = false, drag = null;

    const show = () => {
      const c = ((Math.round(column) % columns) + columns) % columns, r = Math.round(row);
      shown.src = pictures[r * columns + c].src;
      status.textContent = `Place ${c + 1} of ${columns}, row ${r + 1} of ${rows}`;
    };
    const move = (right, down) => {
      column = closed ? column + right : Math.max(0, Math.min(columns - 1, column + right));
      row = Math.max(0, Math.min(rows - 1, row + down));
      show();
    };
    // A drag across the picture goes once around, or from one end to the other.
    shown.addEventListener("pointerdown", (e) => { shown.setPointerCapture(e.pointerId); drag = [e.clientX, e.clientY]; });
    for (const end of ["pointerup", "pointercancel"]) shown.addEventListener(end, () => { drag = null; });
    shown.addEventListener("pointermove", (e) => {
      if (!drag) return;
      move((drag[0] - e.clientX) / shown.clientWidth * columns, (drag[1] - e.clientY) / shown.clientHeight * rows);
      drag = [e.clientX, e.clientY];
    });
    shown.addEventListener("keydown", (e) => {
      const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[e.key];
      if (step) { e.preventDefault(); move(...step); }
    });
    let way = 1, last = 0;
    const frame = (now) => {
      if (!turning) return;
      if (!closed && (column + way > columns - 1 || column + way < 0)) way = -way;
      if (now - last > 90) { last = now; move(way, 0); }
      requestAnimationFrame(frame);
    };
    button.addEventListener("click", () => {
      turning = !turning;
      button.setAttribute("aria-pressed", turning);
      if (turning) requestAnimationFrame(frame);
    });
    show();
  }
}
