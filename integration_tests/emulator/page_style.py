"""Style and script of the page; no external assets."""
# ruff: noqa: E501 - one rule of style per line

STYLE = """
:root{--ink:#1c2333;--dim:#6b7488;--line:#e4e8f0;--back:#f4f6fa;--q:#5b4be0;--k:#0b8a83}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);
 font:13px/1.45 -apple-system,"Segoe UI",Inter,Roboto,"DejaVu Sans",sans-serif}
main{max-width:1280px;margin:0 auto;padding:18px 24px 28px}
header{display:flex;justify-content:space-between;align-items:center;margin-bottom:14px}
h1{font-size:21px;margin:0;letter-spacing:-.02em}
header p{margin:2px 0 0;color:var(--dim)}
h2{font-size:11px;text-transform:uppercase;letter-spacing:.08em;color:var(--dim);margin:0 0 8px}
h3{font-size:14px;margin:0}
.tiles{display:flex;gap:10px}
.tile{background:#fff;border:1px solid var(--line);border-radius:10px;padding:7px 14px;min-width:104px}
.tile b{display:block;font-size:18px;font-variant-numeric:tabular-nums}
.tile span{color:var(--dim);font-size:11px}
.grid{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:18px}
.lower{grid-template-columns:minmax(0,5fr) minmax(0,3fr);margin-top:16px}
.lower section+section{margin-top:14px}
article{background:#fff;border:1px solid var(--line);border-radius:10px;overflow:hidden;margin-bottom:10px}
.qobra article{border-top:3px solid var(--q)}
.kore article{border-top:3px solid var(--k)}
.qobra h2{color:var(--q)}.kore h2{color:var(--k)}
.title{display:flex;justify-content:space-between;align-items:baseline;padding:8px 12px 6px}
.count{font-weight:600;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:12px}
th{font-weight:500;color:var(--dim);text-align:left;background:#fafbfd}
th,td{padding:4px 10px;border-top:1px solid var(--line);white-space:nowrap}
article.scroll tr:first-child th{border-top:0}
td{max-width:190px;overflow:hidden;text-overflow:ellipsis;font-variant-numeric:tabular-nums}
.number{text-align:right}.null,.dim,.more{color:#9aa3b5}
.log{table-layout:fixed}
.log td,.log th{padding:4px 8px}
.log th:nth-child(1){width:44px}.log th:nth-child(2){width:102px}.log th:nth-child(4){width:58px}
.log th:nth-child(5){width:78px}.log th:nth-child(6){width:124px}.log th:nth-child(7){width:52px}
.chip{display:inline-block;border-radius:99px;padding:0 8px;background:#eceff5;font-size:11px;line-height:18px}
.good,.finished{background:#dcf5e7;color:#116b3a}.bad{background:#fde3e3;color:#a31d1d}
.fault,.started{background:#fff0d2;color:#8a5a00}
.chips{padding:9px 10px}.chips .chip{margin:2px}
.empty{color:var(--dim);padding:4px 12px 10px;margin:0}
.chips .empty{padding:0 2px}
"""

SCRIPT = """
setInterval(async () => {
  if (document.hidden || String(getSelection())) return;
  try {
    const answer = await fetch("/_page");
    document.getElementById("page").innerHTML = await answer.text();
  } catch (gone) { document.title = "(gone) Data tables emulator"; }
}, 1000);
"""
