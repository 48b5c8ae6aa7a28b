import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
  type RouteComponent,
  retainSearchParams,
} from "@tanstack/react-router";
import { basePath } from "./api/base";
import { session } from "./auth/current";
import { Frame } from "./pages/frame/Frame";
import { NotFound } from "./pages/frame/NotFound";
import { PageError } from "./pages/frame/PageError";

/** What every URL may carry: the project that lists are filtered by. */
interface Shared {
  project?: string;
}

const text = (value: unknown): string | undefined => (typeof value === "string" && value !== "" ? value : undefined);

/** Keeps the named search parameters that are text. */
function only<K extends string>(...names: K[]) {
  return (search: Record<string, unknown>): Partial<Record<K, string>> => {
    const kept: Partial<Record<K, string>> = {};
    for (const name of names) {
      const value = text(search[name]);
      if (value !== undefined) kept[name] = value;
    }
    return kept;
  };
}

/** A page that is loaded when it is gone to. Its type is written down: pages know the router, so the router's must not be made from theirs. */
function page(load: () => Promise<Record<string, unknown>>, name: string): RouteComponent {
  return lazyRouteComponent(load as () => Promise<Record<string, RouteComponent>>, name);
}

const root = createRootRoute({
  component: Outlet,
  notFoundComponent: NotFound,
  validateSearch: (search): Shared => only("project")(search),
  search: { middlewares: [retainSearchParams<Shared>(["project"])] },
});

const login = createRoute({
  getParentRoute: () => root,
  path: "/login",
  validateSearch: only("from"),
  component: page(() => import("./pages/login/Login"), "LoginPage"),
});

const setup = createRoute({
  getParentRoute: () => root,
  path: "/setup",
  component: page(() => import("./pages/login/Setup"), "SetupPage"),
});

const inside = createRoute({
  getParentRoute: () => root,
  id: "inside",
  component: Frame,
  errorComponent: PageError,
  notFoundComponent: NotFound,
  beforeLoad: ({ location }): void => {
    if (session.get() === "out") throw redirect({ to: "/login", search: { from: location.publicHref } });
  },
});

const routes = root.addChildren([
  login,
  setup,
  inside.addChildren([
    createRoute({
      getParentRoute: () => inside,
      path: "/",
      component: page(() => import("./pages/overview/Overview"), "OverviewPage"),
    }),
    createRoute({
      getParentRoute: () => inside,
      path: "/services",
      validateSearch: only("q", "state"),
      component: page(() => import("./pages/services/generic/List"), "ServicesPage"),
    }),
    createRoute({
      getParentRoute: () => inside,
      path: "/services/new",
      component: page(() => import("./pages/services/generic/Create"), "CreatePage"),
    }),
    createRoute({
      getParentRoute: () => inside,
      path: "/services/$project/$collection/$service",
      validateSearch: only("tab"),
      component: page(() => import("./pages/services/generic/Detail"), "ServicePage"),
    }),
    createRoute({
      getParentRoute: () => inside,
      path: "/operations",
      validateSearch: only("state", "target"),
      component: page(() => import("./pages/operations/List"), "OperationsPage"),
    }),
    createRoute({
      getParentRoute: () => inside,
      path: "/operations/$module/$operation",
      component: page(() => import("./pages/operations/Detail"), "OperationPage"),
    }),
    createRoute({
      getParentRoute: () => inside,
      path: "/clusters",
      component: page(() => import("./pages/clusters/List"), "ClustersPage"),
    }),
    createRoute({
      getParentRoute: () => inside,
      path: "/clusters/new",
      component: page(() => import("./pages/clusters/Join"), "JoinPage"),
    }),
    createRoute({
      getParentRoute: () => inside,
      path: "/clusters/$cluster",
      component: page(() => import("./pages/clusters/Detail"), "ClusterPage"),
    }),
    createRoute({
      getParentRoute: () => inside,
      path: "/software",
      component: page(() => import("./pages/software/List"), "SoftwareListPage"),
    }),
    createRoute({
      getParentRoute: () => inside,
      path: "/software/$software",
      component: page(() => import("./pages/software/Detail"), "SoftwarePage"),
    }),
    createRoute({
      getParentRoute: () => inside,
      path: "/projects",
      component: page(() => import("./pages/projects/List"), "ProjectsPage"),
    }),
    createRoute({
      getParentRoute: () => inside,
      path: "/projects/$id",
      component: page(() => import("./pages/projects/Detail"), "ProjectPage"),
    }),
    createRoute({
      getParentRoute: () => inside,
      path: "/access",
      validateSearch: only("tab"),
      component: page(() => import("./pages/access/Access"), "AccessPage"),
    }),
    createRoute({
      getParentRoute: () => inside,
      path: "/log",
      validateSearch: only("filter", "live", "since", "until"),
      component: page(() => import("./pages/log/Log"), "LogPage"),
    }),
    createRoute({
      getParentRoute: () => inside,
      path: "/account",
      component: page(() => import("./pages/account/Account"), "AccountPage"),
    }),
  ]),
]);

/** The router, under the path that the page is served at. */
export function makeRouter() {
  return createRouter({
    routeTree: routes,
    basepath: basePath,
    defaultPreload: "intent",
    scrollRestoration: false,
  });
}

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof makeRouter>;
  }
}
