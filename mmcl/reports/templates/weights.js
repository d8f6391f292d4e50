"use strict";
{ // CLIP's weights of six pairs: nu I - (P + Q)/2, the softmaxes of s/tau along rows and columns
  const softmax = row => {
    const top = Math.max(...row), e = row.map(x => Math.exp(x - top)), sum = e.reduce((a, b) => a + b);
    return e.map(x => x / sum);
  };
  const transpose = a => a[0].map((_, j) => a.map(row => row[j]));
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1];
  const compute = ({ tau, nu, swapped, corners }) => {
    const right = 6 - swapped, moved = [...corners.slice(right + 1), ...(swapped ? [corners[right]] : [])];
    const other = [...corners.slice(0, right), ...moved];
    const s = corners.map(x => other.map(y => dot(x, y) / tau)), p = s.map(softmax), q = transpose(transpose(s).map(softmax));
    const weights = p.map((row, i) => row.map((x, j) => (i === j ? nu : 0) - (x + q[i][j]) / 2));
    let signal = 0, whole = 0;
    corners.forEach((x, i) => { whole += dot(x, x); other.forEach((y, j) => { signal += weights[i][j] * dot(x, y); }); });
    return { weights, signal: signal / whole };
  };
  const draw = ({ swapped }, { weights, signal }) => {
    const cells = weights.flatMap((row, i) => row.map((w, j) => {
      const x = 20 + 48 * j, y = 24 + 48 * i, shade = Math.min(Math.abs(w) / 3, 1).toFixed(3), wrong = i === j && i >= 6 - swapped;
      return `<rect x="${x}" y="${y}" width="46" height="46" fill="${w < 0 ? "#2f7fc1" : "#d6493b"}" fill-opacity="${shade}" stroke="currentColor"
        stroke-width="${wrong ? 2 : 0.3}"/><text x="${x + 23}" y="${y + 28}" text-anchor="middle">${(w + 0).toFixed(2).replace("-0.00", "0.00")}</text>`;
    })).join("");
    const bar = Math.max(-1, Math.min(2, signal)), x0 = 420, length = 60 * Math.abs(bar);
    const left = `<text x="350" y="110">signal left</text><rect x="${bar < 0 ? x0 - length : x0}" y="125" width="${length}" height="22"
      fill="${bar < 0 ? "#2f7fc1" : "#d6493b"}"/><path d="M${x0} 118V154" stroke="currentColor"/><text x="${x0}" y="172" text-anchor="middle">0</text>
      <text x="350" y="205">${signal < -0.005 ? "partners pushed apart" : signal < 0.1 ? "next to nothing" : "partners pulled together"}</text>
      <text x="350" y="245">thick frames: wrong pairs</text>`;
    return `<output>Signal left: ${signal.toFixed(3)}</output>` + svg("0 0 600 320", cells + left, "Six by six weights and the signal left");
  };
  const two = x => x.toFixed(2);
  play("weights", [
    { key: "tau", label: "temperature τ", min: -1.4, max: 1.4, step: 0.05, from: Math.log10, to: x => 10 ** x, text: two },
    { key: "nu", label: "pull ν", min: 1, max: 3, step: 0.05, text: two },
    { key: "swapped", label: "wrong pairs", min: 0, max: 5, step: 1, from: x => Math.max(0, x - 1), to: x => (x ? x + 1 : 0) },
  ], compute, draw);
}
