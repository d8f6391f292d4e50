"use strict";
{ // the leading eigenvector of a symmetric [[a, b], [b, d]] has the angle atan2(2b, a - d)/2
  const degrees = 180 / Math.PI, leading = (a, b, d) => degrees * Math.atan2(2 * b, a - d) / 2;
  const apart = axis => Math.abs((((axis - 45 + 90) % 180) + 180) % 180 - 90);
  const compute = ({ angle, wrong_share: wrong, noise: [long, short] }) => {
    const c = Math.cos(angle / degrees), s = Math.sin(angle / degrees);
    const a = 0.5 + long * c * c + short * s * s, d = 0.5 + long * s * s + short * c * c, b = 0.5 + (long - short) * c * s;
    const strength = 1 - wrong, axis = { PCA: leading(a, b, d), masked: leading(0, b, 0), multimodal: leading(strength / 2, strength / 2, strength / 2) };
    return { axis, off: Object.fromEntries(Object.entries(axis).map(([name, value]) => [name, apart(value)])), strength };
  };
  const looks = { PCA: ["#009E73", "9 3 2 3"], masked: ["#D55E00", "7 4"], multimodal: ["#3d8fd1", "none"] };
  const draw = ({ angle, noise }, { axis, off, strength }) => {
    const ellipse = (turn, rx, ry, fill) => `<ellipse rx="${80 * rx}" ry="${80 * ry}" transform="rotate(${-turn})" fill="${fill}" fill-opacity=".3" stroke="${fill}"/>`;
    const line = ([name, at]) => {
      const reach = 136 * (name === "multimodal" ? strength : 1), x = reach * Math.cos(at / degrees), y = -reach * Math.sin(at / degrees);
      return `<path d="M${-x} ${-y}L${x} ${y}" stroke="${looks[name][0]}" stroke-width="3.5" stroke-dasharray="${looks[name][1]}"/>`;
    };
    const told = Object.keys(axis).map((name, i) => `<path d="M190 ${-52 + 34 * i}h44" stroke="${looks[name][0]}" stroke-width="3.5" stroke-dasharray="${looks[name][1]}"/>
      <text x="244" y="${-48 + 34 * i}">${name}: ${off[name].toFixed(0)}° off</text>`).join("");
    const inside = `<path d="M-160 0H160M0 -155V155" stroke="currentColor" stroke-opacity=".35"/><text x="160" y="-6" text-anchor="end">coordinate 1</text><text x="6" y="-142">coordinate 2</text>
      ${ellipse(angle, Math.sqrt(noise[0]), Math.sqrt(noise[1]), "#888")}${ellipse(45, 1, 0.12, "#3d8fd1")}${Object.entries(axis).map(line).join("")}${told}
      <text x="244" y="42">of strength ${strength.toFixed(2)}</text><text x="190" y="90">blue: signal, grey: noise</text>`;
    return `<output>Off the signal: PCA ${off.PCA.toFixed(0)}°, masked ${off.masked.toFixed(0)}°, multimodal ${off.multimodal.toFixed(0)}°</output>`
      + svg("-170 -160 640 320", inside, "Ellipses of signal and noise, and three directions");
  };
  play("ellipses", [
    { key: "angle", label: "angle of the noise", min: 0, max: 180, step: 1, text: x => `${x}°` },
    { key: "wrong_share", label: "share of wrong pairs", min: 0, max: 0.95, step: 0.05, text: x => `${Math.round(100 * x)} %` },
  ], compute, draw);
}
