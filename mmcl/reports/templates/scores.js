"use strict";
{ // given q^2 ~ chi2_r and v = 1 + noise^2: the partner's score is N(q^2, q^2 (v^2 - 1)), a stranger's N(0, q^2 v^2)
  const density = x => Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
  const above = x => { // P(g > x) for x >= 0: a series near 0, a continued fraction beyond
    if (x > 5) { let f = x; for (let k = 40; k > 0; k--) f = x + k / f; return density(x) / f; }
    let term = x, sum = x;
    for (let k = 3; term > 1e-17; k += 2) { term *= x * x / k; sum += term; }
    return 0.5 - density(x) * sum;
  };
  const logBelow = x => (x > 0 ? Math.log1p(-above(x)) : Math.log(above(-x)));
  const radii = r => { // Simpson's rule for q, with the density of chi_r
    const low = Math.max(Math.sqrt(r) - 8, 0), h = (Math.sqrt(r) + 8 - low) / 1000, rule = [];
    for (let i = 0; i <= 1000; i++) {
      const q = low + i * h, w = q > 0 ? Math.exp((r - 1) * Math.log(q / Math.sqrt(r)) - (q * q - r) / 2) : 0;
      rule.push([q || 1e-9, w * (i % 1000 ? (i % 2 ? 4 : 2) : 1)]);
    }
    const whole = rule.reduce((sum, [, w]) => sum + w, 0);
    return rule.map(([q, w]) => [q, w / whole]).filter(([, w]) => w > 1e-13);
  };
  const compute = ({ noise_std: noise, rank: r, candidates: n, score }) => {
    const v = 1 + noise * noise, rule = radii(r), partner = [], best = [];
    let share = 0;
    for (const [q, w] of rule) for (let g = -8; g < 8.05; g += 0.1)
      share += 0.1 * w * density(g) * Math.exp((n - 1) * logBelow((q + Math.sqrt(v * v - 1) * g) / v));
    for (const t of score) {
      let one = 0, other = 0;
      for (const [q, w] of rule) {
        const std = q * Math.sqrt(v * v - 1), z = t * r / (q * v);
        one += w * density((t * r - q * q) / std) / std;
        other += w * (n - 1) * Math.exp((n - 2) * logBelow(z)) * density(z) / (q * v);
      }
      partner.push(r * one);
      best.push(r * other);
    }
    return { share, partner, best };
  };
  const draw = ({ score, candidates }, { share, partner, best }) => {
    const top = Math.max(...partner, ...best), x = t => 30 + 160 * (t + 0.5), y = f => 250 - 215 * f / top;
    const curve = (values, colour, dash) => `<path d="M${x(score[0])} 250L${values.map((f, i) => `${x(score[i]).toFixed(1)} ${y(f).toFixed(1)}`).join("L")}L${x(3)} 250Z"
      fill="${colour}" fill-opacity=".3" stroke="${colour}" stroke-width="2.5" stroke-dasharray="${dash}"/>`;
    const name = (values, words, up) => `<text x="${x(score[values.indexOf(Math.max(...values))])}" y="${y(Math.max(...values)) - up}" text-anchor="middle">${words}</text>`;
    const ticks = [0, 1, 2, 3].map(t => `<path d="M${x(t)} 250v6" stroke="currentColor"/><text x="${x(t)}" y="272" text-anchor="middle">${t}</text>`).join("");
    return `<output>${(100 * share).toFixed(1)} % of the rows find their partner among ${candidates} rows</output>`
      + svg("0 0 620 305", curve(partner, "#3d8fd1", "none") + curve(best, "#D55E00", "7 4") + ticks + name(partner, "partner", 5) + name(best, "best stranger", 19)
        + `<path d="M30 250H590" stroke="currentColor"/><text x="310" y="296" text-anchor="middle">score divided by r</text>`, "Densities of the partner's score and of the best stranger's");
  };
  play("scores", [
    { key: "noise_std", label: "noise", min: 0.2, max: 2, step: 0.05, text: x => x.toFixed(2) },
    { key: "rank", label: "latent dimension r", min: 4, max: 100, step: 1 },
    { key: "candidates", label: "rows N", min: 1, max: 4, step: 0.1, from: Math.log10, to: x => Math.round(10 ** x) },
  ], compute, draw);
}
