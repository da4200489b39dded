// The proxies, the configuration of each in examples/deploy, and what a test changes in it: addresses and the certificate.

const CERTIFICATE = "/etc/ssl/stream.example.com/fullchain.pem";
const KEY = "/etc/ssl/stream.example.com/privkey.pem";
const pem = ({ folder }) => [[CERTIFICATE, `${folder}/certificate.pem`], [KEY, `${folder}/key.pem`]];

// Of each proxy:
//   files           are copied, with `changes` of their text: [old, new]
//   upstream        returns how the files write an address of the server: host:port or unix:path
//   extra           files that only the test has
//   quiet           the timeout in the files that ends streams without traffic
//   refusesStreams  clients with HTTP/2 get REFUSED_STREAM, not a status, if the server closes a connection instead of answering
//   waits           requests wait for a server that is down, and are not answered in its place

const unixPath = (address) => address.match(/^unix:(.*)/)?.[1];

const nginx = {
  name: "nginx",
  files: ["nginx/fanline.conf"],
  upstream: (address) => address,
  changes: (place) => [
    ...pem(place),
    ["listen 443 ssl", `listen 127.0.0.1:${place.port} ssl`],
    ["    listen [::]:443 ssl http2;\n", ""],
  ],
  extra: () => ({
    "nginx.conf": [
      "pid nginx.pid;",
      "worker_processes 1;",
      "events {}",
      "http {",
      "    access_log off;",
      ...["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `    ${name}_temp_path ${name};`),
      "    include fanline.conf;",
      "}",
    ].join("\n"),
  }),
  command: ({ folder }) => ["nginx", "-p", folder, "-c", "nginx.conf", "-e", "stderr", "-g", "daemon off;"],
  quiet: "proxy_read_timeout 90s",
};

const haproxy = {
  name: "HAProxy",
  files: ["haproxy/haproxy.cfg"],
  upstream: (address) => address.replace(/^unix:/, "unix@"),
  changes: ({ folder, port }) => [
    ["    bind [::]:443 v6only ssl crt /etc/haproxy/stream.example.com.pem alpn h2,http/1.1\n", ""],
    ["bind :443", `bind 127.0.0.1:${port}`],
    ["/etc/haproxy/stream.example.com.pem", `${folder}/both.pem`],
  ],
  command: ({ folder }) => ["haproxy", "-db", "-f", `${folder}/haproxy.cfg`],
  quiet: "timeout server 90s",
  refusesStreams: true,
};

const caddy = {
  name: "Caddy",
  files: ["caddy/Caddyfile", "caddy/fanline.caddy"],
  upstream: (address) => address.replace(/^unix:/, "unix/"),
  // A test need not wait 5 s for the server.
  changes: () => [["lb_try_duration 5s", "lb_try_duration 500ms"]],
  // Its own options, the site's two lines, and the test's certificate in place of a fetched one.
  extra: ({ folder }) => ({
    "test.Caddyfile": `{\n\tadmin off\n\tauto_https disable_redirects\n}\nimport Caddyfile\ntls ${folder}/certificate.pem ${folder}/key.pem\n`,
  }),
  environment: ({ port, folder }) => ({ DOMAIN: `https://127.0.0.1:${port}`, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder }),
  command: ({ folder }) => ["caddy", "run", "--adapter", "caddyfile", "--config", `${folder}/test.Caddyfile`],
};

const traefik = {
  name: "Traefik",
  files: ["traefik/traefik.yaml", "traefik/fanline.yaml"],
  upstream: (address) => address,
  changes: (place) => [
    ...pem(place),
    ['":443"', `"127.0.0.1:${place.port}"`],
    ["/etc/traefik/fanline.yaml", `${place.folder}/fanline.yaml`],
  ],
  command: ({ folder }) => [process.env.TRAEFIK ?? "traefik", `--configFile=${folder}/traefik.yaml`],
  waits: true,
};

const envoy = {
  name: "Envoy",
  files: ["envoy/envoy.yaml"],
  upstream: (address) => {
    const path = unixPath(address);
    return path ? `pipe: { path: ${path} }` : `socket_address: { address: ${address.replace(":", ", port_value: ")} }`;
  },
  changes: (place) => [
    ...pem(place),
    ['address: "::", ipv4_compat: true, port_value: 443', `address: 127.0.0.1, port_value: ${place.port}`],
  ],
  command: ({ folder }) => [
    ...[process.env.ENVOY ?? "envoy", "-c", `${folder}/envoy.yaml`],
    ...["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"],
  ],
  quiet: "stream_idle_timeout: 90s",
};

/** HAProxy in front of several servers, without TLS. Here they are one server. */
export const cluster = {
  name: "HAProxy of a cluster",
  scheme: "http",
  files: ["cluster/haproxy.cfg"],
  changes: () => [],
  environment: ({ port, upstream }) => ({ FRONT: `127.0.0.1:${port}`, ONE: upstream, TWO: upstream, THREE: upstream }),
  command: haproxy.command,
};

/** The proxies, or those that PROXIES names. */
export const programs = [nginx, haproxy, caddy, traefik, envoy].filter(({ name }) => (process.env.PROXIES ?? name).split(",").includes(name));
