import { createRoot } from "react-dom/client";

import { App } from "./App.jsx";

// The page's query selects the stream: /?stream=/stream?topics=metric
const url = new URLSearchParams(location.search).get("stream") ?? "/stream";
createRoot(document.getElementById("root")).render(<App url={url} keep={1000} />);
