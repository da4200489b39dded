import { createRoot } from "react-dom/client";

import { App } from "./App.jsx";

// Which stream it follows stands in its own address: /?stream=/stream?topics=metric
const url = new URLSearchParams(location.search).get("stream") ?? "/stream";
createRoot(document.getElementById("root")).render(<App url={url} keep={1000} />);
