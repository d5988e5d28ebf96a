"""How drawings look: for light and dark pages, without scripts or fonts from elsewhere."""

from __future__ import annotations

__all__ = ["STYLE"]

# The colours are variables, so that a page may have its own. What a colour says, a sign or a word says too.
STYLE = """
.saga-drawing { --saga-page: #ffffff; --saga-ink: #0f172a; --saga-quiet: #475569; --saga-line: #94a3b8;
  --saga-good: #15803d; --saga-open: #1d4ed8; --saga-bad: #b91c1c; --saga-doubt: #b45309; --saga-undo: #6d28d9;
  --saga-good-fill: #f0fdf4; --saga-open-fill: #eff6ff; --saga-bad-fill: #fef2f2; --saga-doubt-fill: #fffbeb;
  --saga-undo-fill: #f5f3ff; --saga-plain-fill: #f1f5f9; }
@media (prefers-color-scheme: dark) {
  .saga-drawing { --saga-page: #0f172a; --saga-ink: #f1f5f9; --saga-quiet: #cbd5e1; --saga-line: #64748b;
    --saga-good: #4ade80; --saga-open: #60a5fa; --saga-bad: #f87171; --saga-doubt: #fbbf24; --saga-undo: #c4b5fd;
    --saga-good-fill: #052e16; --saga-open-fill: #172554; --saga-bad-fill: #450a0a; --saga-doubt-fill: #422006;
    --saga-undo-fill: #2e1065; --saga-plain-fill: #1e293b; }
}
.saga-drawing text { font-family: ui-sans-serif, system-ui, -apple-system, "Segoe UI", sans-serif; font-size: 12px;
  fill: var(--saga-ink); }
.saga-drawing .middle { text-anchor: middle; } .saga-drawing .end { text-anchor: end; }
.saga-drawing .name { font-size: 13px; font-weight: 600; }
.saga-drawing .quiet { fill: var(--saga-quiet); font-size: 11px; }
.saga-drawing .box { fill: var(--saga-plain-fill); stroke: var(--saga-line); stroke-width: 1.4; }
.saga-drawing .good .box { fill: var(--saga-good-fill); stroke: var(--saga-good); }
.saga-drawing .open .box { fill: var(--saga-open-fill); stroke: var(--saga-open); }
.saga-drawing .bad .box { fill: var(--saga-bad-fill); stroke: var(--saga-bad); }
.saga-drawing .doubt .box { fill: var(--saga-doubt-fill); stroke: var(--saga-doubt); stroke-dasharray: 5 3; }
.saga-drawing .undo .box { fill: var(--saga-undo-fill); stroke: var(--saga-undo); }
.saga-drawing .now .box { stroke-width: 3.2; }
.saga-drawing .edge { fill: none; stroke: var(--saga-line); stroke-width: 1.6; }
.saga-drawing .edge.back { stroke: var(--saga-undo); }
.saga-drawing .edge.undoes { stroke: var(--saga-undo); stroke-dasharray: 3 3; }
.saga-drawing .head { fill: var(--saga-line); } .saga-drawing .head.back { fill: var(--saga-undo); }
.saga-drawing .grid { stroke: var(--saga-line); stroke-width: 0.6; opacity: 0.6; }
.saga-drawing .bar { stroke: none; fill: var(--saga-line); }
.saga-drawing .bar.good { fill: var(--saga-good); } .saga-drawing .bar.bad { fill: var(--saga-bad); }
.saga-drawing .bar.undo { fill: var(--saga-undo); } .saga-drawing .bar.open { fill: var(--saga-open); }
.saga-drawing .bar.wait { fill: none; stroke: var(--saga-line); stroke-dasharray: 2 2; }
.saga-drawing .bar.wait.bad { stroke: var(--saga-bad); }
.saga-drawing .grid.now { stroke: var(--saga-ink); stroke-width: 1.2; opacity: 1; }
.saga-drawing .bar.undo.bad { stroke: var(--saga-bad); stroke-width: 2; }
.saga-drawing .mark { fill: var(--saga-ink); } .saga-drawing .mark.bad { fill: var(--saga-bad); }
.saga-drawing a:focus .box { stroke-width: 4; }
"""
