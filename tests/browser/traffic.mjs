// Events and subscribers of an invented shop, for screenshots.

const COUNTRIES = ["de", "fr", "jp", "br"];
const random = (below) => Math.floor(Math.random() * below);
const pick = (list) => list[random(list.length)];

const EVENTS = [
  () => ({ topic: `orders.${pick(COUNTRIES)}`, event: "created", data: {
    order: 1000 + random(9000), total: random(20_000) / 100, items: [{ sku: `S-${random(99)}`, count: 1 + random(3) }], customer: { id: random(500), isNew: random(5) === 0 } } }),
  () => ({ topic: `prices.${pick(["EURUSD", "GBPUSD", "USDJPY"])}`, data: { bid: 1 + random(1000) / 1e4, ask: 1 + random(1000) / 1e4 } }),
  () => ({ topic: "chat:42", text: pick(["Hello!", "Is it in stock?", "Shipped today."]) }),
  () => ({ topic: "presence", event: pick(["joined", "left"]), data: { user: `user-${random(500)}` } }),
];

/** Publishes about `rate` events a second until `signal` is aborted. */
export async function publish(server, rate, signal) {
  let second = 0;
  while (!signal.aborted) {
    second += 0.1;
    const count = Math.round((rate * (1 + 0.4 * Math.sin(second / 3) + 0.2 * Math.random())) / 10);
    await server.send(Array.from({ length: count }, () => pick(EVENTS)()));
    await new Promise((done) => setTimeout(done, 100));
  }
}

/** Subscribers that read everything. */
export async function subscribe(server, signal) {
  const wanted = [["web-1", "orders.*"], ["web-2", "orders.*,presence"], ["ticker", "prices.**"], ["chat", "chat:42"], ["audit", ""], ["warehouse", "orders.de"]];
  for (const [name, topics] of wanted) {
    const query = new URLSearchParams({ client_name: name, topics, tags: "shop" });
    const { body } = await fetch(`${server.url}/stream?${query}`, { signal });
    body.pipeTo(new WritableStream()).catch(() => {});
  }
}
