import "@mantine/core/styles.css";
import "./app.css";
import "./parts.css";
import { MantineProvider, localStorageColorSchemeManager } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { isTransient } from "./api/errors";
import { session } from "./auth/current";
import { begin } from "./i18n";
import { makeRouter } from "./router";

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      // What has no stream is asked again when the viewer comes back to it.
      refetchOnWindowFocus: true,
      staleTime: 5_000,
      retry: (count, error) => count < 3 && isTransient(error),
    },
  },
});
const router = makeRouter();
const colors = localStorageColorSchemeManager({ key: "upm.colors" });

const root = document.getElementById("root");
await begin();
await session.start();

// Another user's answers must not be seen; what was open is opened again after the login.
session.subscribe(() => {
  if (session.get() !== "out") return;
  queries.clear();
  const { pathname, publicHref } = router.state.location;
  if (pathname !== "/login" && pathname !== "/setup")
    void router.navigate({ to: "/login", search: { from: publicHref } });
});

if (root) {
  createRoot(root).render(
    <StrictMode>
      {/* The page's policy allows no style elements: what Mantine would write into one is in app.css. */}
      <MantineProvider
        defaultColorScheme="auto"
        colorSchemeManager={colors}
        withCssVariables={false}
        withGlobalClasses={false}
        deduplicateCssVariables={false}
      >
        <QueryClientProvider client={queries}>
          <RouterProvider router={router} />
        </QueryClientProvider>
      </MantineProvider>
    </StrictMode>,
  );
}
