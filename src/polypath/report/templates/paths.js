// Follow one or several tasks through the path picture: by button, by a click on a lane or stripe, Escape for all.
for (const box of document.querySelectorAll("[data-paths]")) {
  const picture = box.querySelector("svg.paths");
  const buttons = [...box.querySelectorAll("button[data-task]")];
  const chosen = new Set();
  const show = () => {
    picture.classList.toggle("focus", chosen.size > 0);
    for (const part of picture.querySelectorAll("[data-task]")) {
      const on = chosen.has(part.dataset.task);
      part.classList.toggle("on", on);
      for (const lane of part.querySelectorAll(".lane")) lane.classList.toggle("on", on);
    }
    for (const button of buttons) button.setAttribute("aria-pressed", String(chosen.has(button.dataset.task)));
  };
  const toggle = (task) => {
    if (!chosen.delete(task)) chosen.add(task);
    show();
  };
  for (const button of buttons) button.addEventListener("click", () => toggle(button.dataset.task));
  picture.addEventListener("click", (event) => {
    const part = event.target.closest("[data-task]");
    if (part) toggle(part.dataset.task);
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      chosen.clear();
      show();
    }
  });
}
