"""Style and script of the page; no external assets."""
# ruff: noqa: E501 - one rule of style per line

STYLE = """
:root{--ink:#1c2333;--dim:#5f687c;--line:#e4e8f0;--back:#f4f6fa;--q:#5b4be0;--k:#0b7a74}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);
 font:13px/1.45 -apple-system,"Segoe UI",Inter,Roboto,"DejaVu Sans",sans-serif}
main{max-width:1280px;margin:0 auto;padding:18px 24px 28px}
a{color:inherit}
h3 a{text-decoration:none}h3 a:hover,a:focus{text-decoration:underline}
header{display:flex;flex-wrap:wrap;gap:10px;justify-content:space-between;align-items:center;margin-bottom:14px}
h1{font-size:21px;margin:0;letter-spacing:-.02em}
header p{margin:2px 0 0;color:var(--dim)}
h2{font-size:11px;text-transform:uppercase;letter-spacing:.08em;color:var(--dim);margin:0 0 8px}
h3{font-size:14px;margin:0;overflow-wrap:anywhere}
.tiles{display:flex;flex-wrap:wrap;gap:10px}
.tile{background:#fff;border:1px solid var(--line);border-radius:10px;padding:7px 14px;min-width:104px;flex:1}
.tile b{display:block;font-size:18px;font-variant-numeric:tabular-nums}
.tile span{color:var(--dim);font-size:11px}
.grid{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:18px}
.lower{grid-template-columns:minmax(0,5fr) minmax(0,3fr);margin-top:16px}
section{min-width:0;margin-bottom:14px}
article{background:#fff;border:1px solid var(--line);border-radius:10px;overflow:hidden;margin-bottom:10px}
.qobra article{border-top:3px solid var(--q)}
.kore article{border-top:3px solid var(--k)}
.qobra h2{color:var(--q)}.kore h2{color:var(--k)}
.title{display:flex;gap:12px;justify-content:space-between;align-items:baseline;padding:8px 12px 6px}
.count{font-weight:600;font-variant-numeric:tabular-nums;white-space:nowrap}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:12px}
th{font-weight:500;color:var(--dim);text-align:left;background:#fafbfd}
th,td{padding:4px 10px;border-top:1px solid var(--line);white-space:nowrap;vertical-align:top}
td{max-width:190px;overflow:hidden;text-overflow:ellipsis;font-variant-numeric:tabular-nums}
.grid article td{max-width:132px}.lower article td{max-width:190px}
.number{text-align:right}.null,.dim,.more{color:#7c8599}
.log td,.log th{padding:4px 8px}
.log .path{width:99%;max-width:0}
summary{cursor:pointer;overflow:hidden;text-overflow:ellipsis}
.path p{margin:4px 0 2px;white-space:normal;overflow-wrap:anywhere;color:var(--dim)}
.chip{display:inline-block;border-radius:99px;padding:0 8px;background:#eceff5;font-size:11px;line-height:18px;text-decoration:none}
.good,.finished{background:#dcf5e7;color:#116b3a}.bad{background:#fde3e3;color:#a31d1d}
.fault,.started{background:#fff0d2;color:#7a4f00}.chosen{background:var(--ink);color:#fff}
.filters{display:flex;flex-wrap:wrap;gap:4px;margin-bottom:8px}.filters i{width:8px}
.pager{display:flex;gap:12px;justify-content:flex-end;padding:6px 12px;border-top:1px solid var(--line);color:var(--dim)}
.chips{padding:9px 10px}.chips .chip{margin:2px;overflow-wrap:anywhere}
.empty{color:var(--dim);padding:4px 12px 10px;margin:0}
.chips .empty{padding:0 2px}
.controls{background:#fff;border:1px solid var(--line);border-radius:10px;padding:10px 14px}
.controls form{margin-top:10px}.controls p{color:var(--dim);margin:0 0 8px}
.switches{display:grid;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));gap:8px;margin-bottom:8px}
.switches label{display:flex;flex-direction:column;font-size:11px;color:var(--dim);overflow-wrap:anywhere}
input,select,button{font:inherit;padding:4px 6px;border:1px solid #c9d0de;border-radius:6px;background:#fff;min-width:0}
output{display:block;margin-top:8px;font-weight:600}
@media (max-width:900px){.grid,.lower{grid-template-columns:minmax(0,1fr)}main{padding:14px 14px 24px}}
@media (max-width:520px){.wide{display:none}.tile{min-width:44%}main{padding:10px 8px 20px}.log td,.log th{padding:4px 5px}}
"""

SCRIPT = """
const page = document.getElementById("page"), told = document.getElementById("told");
async function refresh(asked) {
  if (!asked && (document.hidden || String(getSelection()))) return;
  const search = location.search;
  try {
    const answer = await fetch("/_page" + search);
    const text = await answer.text();
    if (search !== location.search) return;  // somebody has clicked since
    const open = [...page.querySelectorAll("details[open]")].map((one) => one.id);
    page.innerHTML = text;
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    document.title = "Data tables emulator";
  } catch (gone) { document.title = "(gone) Data tables emulator"; }
}
setInterval(() => refresh(false), 1000);
page.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  history.pushState(null, "", link.href);
  refresh(true);
});
addEventListener("popstate", () => refresh(true));
async function send(name, content) {
  const answer = await fetch("/_admin/" + name, {method: "POST", body: JSON.stringify(content)});
  told.textContent = answer.ok ? "Set." : (await answer.json()).error;
  refresh(true);
}
const read = (text) => { try { return JSON.parse(text); } catch (plain) { return text; } };
const start = new Map();
for (const field of document.querySelectorAll("#switches [name]")) start.set(field.name, field.value);
document.getElementById("switches").addEventListener("submit", (event) => {
  event.preventDefault();
  const changed = {};
  for (const [name, value] of new FormData(event.target))
    if (value !== start.get(name)) { changed[name] = read(value); start.set(name, value); }
  send("settings", changed);
});
document.getElementById("faults").addEventListener("submit", (event) => {
  event.preventDefault();
  const fault = {};
  for (const [name, value] of new FormData(event.target))
    if (value !== "") fault[name] = name === "match" ? value : read(value);
  send("fault", fault);
});
document.getElementById("no-faults").addEventListener("click", () => send("faults", []));
"""
