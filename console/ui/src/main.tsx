import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { isMissing, Problem } from "./api/client";
import { App } from "./app";
import { applyTheme } from "./lib/prefs";
import "./styles/base.css";
import "./styles/parts.css";
import "./styles/list.css";
import "./styles/alert.css";
import "./styles/pages.css";

applyTheme();

const client = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 10_000,
      refetchOnWindowFocus: true,
      // What the API refuses it refuses again.
      retry: (n, e) => n < 2 && !isMissing(e) && !(e instanceof Problem && e.status >= 400 && e.status < 500),
    },
  },
});

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={client}>
        <App />
      </QueryClientProvider>
    </StrictMode>,
  );
}
