// Faults of some writes under a prefix, for nginx.py; reading requests are never hurt.

// nginx decodes request_uri for the location, so the rest is taken from the raw one.
function rest(r) {
    return r.variables.request_uri.replace(/^\/[a-z]+\/\d+\/\d+\/\d+/, '');
}

function first(r) {
    const counter = `${r.variables.fault}/${r.variables.serial}`;
    const past = r.method === 'GET' || r.method === 'HEAD'
        ? 0 : ngx.shared.writes.incr(counter, 1, 0) - Number(r.variables.after);
    const hurt = past > 0 && past <= Number(r.variables.times);
    r.internalRedirect((hurt ? `/_${r.variables.fault}` : '/_upstream') + rest(r));
}

async function store(r, prefix) {
    const path = '/_upstream' + r.uri.slice(prefix.length);
    return r.subrequest(path, {method: r.method, args: r.variables.args, body: r.requestText});
}

// The upstream has the rows, the client sees the connection close without a byte.
async function lost(r) {
    await store(r, '/_lost');
    r.return(444);
}

// The upstream has the rows, its answer is held back until the proxy in front gives up (504).
async function late(r) {
    const reply = await store(r, '');
    setTimeout(() => r.return(reply.status), 60000);
}

export default {first, lost, late};
