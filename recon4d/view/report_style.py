"""How a report page looks: on a desk, on a phone, in the dark and on paper."""

STYLE = """
:root{color-scheme:light dark;--page:#f6f6f4;--card:#fff;--ink:#1c1e22;--faint:#666b74;--line:#dfe0e3;--accent:#b4570b;
--bar:#d98a3d;--good:#2c7a4b;--bad:#b3261e;--warm:#fff4e2;--warmline:#e5b76a;--blue:#2b6cb8}
@media(prefers-color-scheme:dark){:root{--page:#131418;--card:#1b1c21;--ink:#ececee;--faint:#9a9da6;--line:#31333a;
--accent:#f5aa55;--bar:#c8803a;--good:#6cc48f;--bad:#ff8a80;--warm:#2b2417;--warmline:#7a5a23;--blue:#7fb2ee}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif}
main,header,footer{max-width:1200px;margin:0 auto;padding:0 24px}
header{padding-top:40px}
h1{font-size:2.1rem;line-height:1.15;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:1.35rem;margin:0 0 4px}
h3{font-size:1.02rem;margin:26px 0 8px}
p{margin:0 0 12px;max-width:76ch}
a{color:var(--blue)}
code{font:.88em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
p code,li code{white-space:nowrap}
.next code{white-space:normal}
.sub{color:var(--faint);overflow-wrap:anywhere}
.lead{font-size:1.12rem;margin:14px 0 18px}
.key{color:var(--faint);font-size:.9rem;overflow-wrap:anywhere;max-width:none}
.look{border-left:3px solid var(--accent);padding-left:12px}
.badge{display:inline-block;padding:2px 11px;border-radius:99px;font-size:.84rem;font-weight:600;vertical-align:middle;
border:1px solid currentColor;margin-left:10px;white-space:nowrap}
.good{color:var(--good)}.bad{color:var(--bad)}.open{color:var(--accent)}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(220px,1fr));gap:12px;margin:0 0 22px}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 16px}
.tile b{display:block;font-size:1.38rem;line-height:1.3;font-weight:650;overflow-wrap:anywhere}
.tile span{display:block;color:var(--faint);font-size:.86rem;line-height:1.4}
.tile.warn{border-color:var(--warmline);background:var(--warm)}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;border-block:1px solid var(--line);padding:10px 0;font-size:.92rem}
nav a{text-decoration:none}
section{padding:30px 0 20px;border-bottom:1px solid var(--line)}
section:last-child{border:0}
.note{background:var(--warm);border:1px solid var(--warmline);border-radius:10px;padding:12px 18px;margin:0 0 18px}
.note p:last-child,.note ul:last-child{margin-bottom:0}
.note ul{margin:4px 0 8px;padding-left:20px}
figure{margin:0;background:#18191d;color:#a9acb4;border-radius:10px;overflow:hidden;break-inside:avoid}
figure img{display:block;width:100%;height:auto}
figcaption{padding:7px 12px 9px;font-size:.86rem;line-height:1.4}
.wide{overflow-x:auto;margin:0 0 14px}
.wide img{min-width:680px}
.mid img{min-width:0}
.wide figcaption{position:sticky;left:0}
.grid{display:grid;gap:10px;margin:0 0 14px;grid-template-columns:repeat(auto-fill,minmax(250px,1fr))}
.grid.two{grid-template-columns:repeat(auto-fill,minmax(min(100%,430px),1fr))}
.grid.small{grid-template-columns:repeat(auto-fit,minmax(175px,1fr))}
.pair img+img{border-top:1px solid #18191d}
.mid{max-width:900px}
.barpic{max-width:520px;margin:0 0 14px}
figure.chart{background:var(--card);color:var(--faint);border:1px solid var(--line)}
svg{display:block;width:100%;height:auto}
svg text{font:13px system-ui,sans-serif;fill:var(--faint)}
section>figure{margin-bottom:14px}
.scroll{overflow-x:auto;margin:0 0 14px}
table{border-collapse:collapse;font-size:.92rem;width:100%}
th{text-align:left;color:var(--faint);font-weight:600;font-size:.84rem;white-space:nowrap}
th,td{padding:5px 14px 5px 0;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:normal}
td:first-child{white-space:nowrap}
td code{overflow-wrap:normal}
td .key{white-space:normal;overflow-wrap:normal}
.facts td:first-child,.facts th{white-space:normal}
.scroll.facts td:nth-child(2){min-width:0}.facts td:nth-child(3){min-width:86px}
.files td:nth-child(n+3){white-space:nowrap}
.scroll td:nth-child(2),.scroll td:nth-child(4){min-width:120px}
.bars td:nth-child(2),.bars td:nth-child(4){width:32%;min-width:34px;vertical-align:middle}
.bars td:nth-child(3),.bars td:nth-child(5){white-space:nowrap}
.meter{display:block;height:11px;border-radius:3px;background:var(--bar);min-width:2px;print-color-adjust:exact;
-webkit-print-color-adjust:exact}
.meter.mem{background:var(--blue)}
tr.changed td{font-weight:650}
.mark{color:var(--accent);font-weight:650;white-space:nowrap}
details{margin:6px 0 14px}
summary{cursor:pointer;color:var(--blue);font-size:.95rem;padding:2px 0}
details[open]>summary{margin-bottom:8px}
footer{color:var(--faint);font-size:.86rem;padding-top:18px;padding-bottom:40px}
@media(max-width:620px){main,header,footer{padding-inline:14px}header{padding-top:22px}h1{font-size:1.6rem}
.tiles{grid-template-columns:repeat(2,minmax(0,1fr));gap:8px}.tile{padding:9px 11px}.tile b{font-size:1.1rem}
.grid{grid-template-columns:repeat(2,minmax(0,1fr));gap:6px}.grid.two{grid-template-columns:minmax(0,1fr)}
.grid.small{grid-template-columns:repeat(2,minmax(0,1fr))}figcaption{font-size:.78rem;padding:5px 8px 7px}
.badge{margin-left:0}th,td{padding-right:8px}.bars table{font-size:.8rem}
.bars th,.bars td:first-child{white-space:normal}
.bars td:nth-child(2),.bars td:nth-child(4){width:15%}}
@media print{:root{color-scheme:light;--page:#fff;--card:#fff;--ink:#000;--faint:#444;--line:#ccc;--accent:#8a4208;
--bar:#d98a3d;--good:#1c5c36;--bad:#8c1d18;--warm:#fff;--warmline:#999;--blue:#1d4f8c}
body{font-size:10.5pt}nav{display:none}section{break-inside:auto;padding-top:16px}h2,h3{break-after:avoid}
figure{print-color-adjust:exact;-webkit-print-color-adjust:exact}.wide img{min-width:0}
details::details-content{content-visibility:visible;display:block;height:auto}}
"""
