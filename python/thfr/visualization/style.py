"""The report's style sheet: light or dark as the reader's system is, and fit for printing."""

CSS = """
:root { color-scheme: light dark; --page: #f6f6f4; --card: #fff; --ink: #1d1d1b; --soft: #62625d;
  --edge: #deded8;
  --ok: #00704f; --bad: #b3401a; }
@media (prefers-color-scheme: dark) { :root { --page: #161617; --card: #222224; --ink: #ececea;
  --soft: #a5a5a0;
  --edge: #3a3a3d; --ok: #4fd0a5; --bad: #ff9868; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1480px; margin: 0 auto; padding: 28px 24px 48px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 40px 0 0; }
h2::first-letter { text-transform: uppercase; }
header p, section > p { color: var(--soft); margin: 0 0 14px; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 12px;
  margin: 22px 0 14px; }
.figures div, .diagrams figure, article { background: var(--card); border: 1px solid var(--edge);
  border-radius: 8px; }
.figures div { display: flex; flex-direction: column; padding: 14px 16px; }
.figures strong { font-size: 30px; line-height: 1.15; font-variant-numeric: tabular-nums; }
.figures span { color: var(--soft); font-size: 13px; line-height: 1.35; margin-top: 3px; }
.diagrams { display: flex; flex-wrap: wrap; gap: 12px; margin: 14px 0; }
.diagrams figure { margin: 0; padding: 16px; display: flex; flex-direction: column;
  justify-content: space-between; }
.diagrams .scores { flex: 9 1 480px; } .diagrams .roc { flex: 5 1 300px; }
.diagrams img { display: block; margin: 0 auto; max-width: min(100%, 720px); height: auto;
  max-height: 380px; }
figcaption { color: var(--soft); font-size: 12px; text-align: center; }
.note { margin: 14px 0; max-width: 75em; }
.legend { display: flex; flex-wrap: wrap; gap: 8px 28px; align-items: center; font-size: 13px;
  color: var(--soft);
  margin-top: 20px; }
.legend > span, .bar { display: flex; align-items: center; gap: 8px; }
.bar i { width: 180px; height: 12px; border-radius: 3px; background-color: #777; }
.finding, .truth { width: 18px; height: 12px; border: 2px solid #fff; outline: 1px solid #555;
  border-radius: 3px; }
.truth { border-color: #00e5ff; }
.gallery { display: flex; flex-wrap: wrap; gap: 12px; }
article { padding: 10px; max-width: 100%; }
.panels { display: flex; gap: 6px; }
.panels figure { margin: 0; min-width: 0; max-width: 165px; }
.panels img { display: block; max-width: 100%; width: auto; height: auto; max-height: 200px;
  border-radius: 3px; }
article p { margin: 6px 2px 0; width: 0; min-width: calc(100% - 4px); font-variant-numeric: tabular-nums; }
.name { color: var(--soft); font-weight: 400; overflow-wrap: anywhere; }
.badge { font-size: 12px; padding: 1px 8px; margin-right: 8px; border: 1px solid currentColor;
  border-radius: 99px; }
.found, .calm { color: var(--ok); } .missed, .false-alarm, .alarm { color: var(--bad); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: 4px 14px 4px 0; text-align: right; border-bottom: 1px solid var(--edge); }
th:first-child { text-align: left; font-weight: 500; }
thead th { color: var(--soft); font-weight: 400; }
details { margin-top: 40px; } summary { cursor: pointer; }
footer { margin-top: 32px; border-top: 1px solid var(--edge); color: var(--soft); font-size: 13px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 18px; } dd { margin: 0;
  overflow-wrap: anywhere; }
@media print { article, .figures div, .diagrams figure { break-inside: avoid; } }
"""
