"use strict";
// What the figures to play with have in common: sliders with names, a drawing, and the result for readers and tests.
const play = (name, controls, compute, draw) => {
  for (const figure of document.querySelectorAll(`figure[data-play="${name}"]`)) {
    const values = JSON.parse(figure.dataset.values), stage = document.createElement("div"), form = document.createElement("div");
    stage.className = "stage";
    form.className = "play-controls";
    const update = () => {
      const result = compute(values);
      figure.dataset.result = JSON.stringify(result);
      stage.innerHTML = draw(values, result);
    };
    for (const { key, label, min, max, step, from = x => x, to = x => x, text = x => x } of controls) {
      const field = form.appendChild(document.createElement("label")), words = field.appendChild(document.createElement("span"));
      const input = field.appendChild(Object.assign(document.createElement("input"), { type: "range", name: key, min, max, step }));
      const tell = () => {
        words.textContent = `${label} = ${text(values[key])}`;
        input.setAttribute("aria-valuetext", text(values[key]));
      };
      input.value = from(values[key]);
      tell();
      input.addEventListener("input", () => { values[key] = to(Number(input.value)); tell(); update(); });
    }
    update();
    figure.querySelector("img").after(form, stage);
    figure.classList.add("playing");
  }
};
const svg = (box, inside, label) => `<svg viewBox="${box}" role="img" aria-label="${label}">${inside}</svg>`;
