import { use, useSyncExternalStore } from "react";
import { Merged } from "../../api/merged";
import { Watch, type Picture } from "../../api/watch";
import type { Engine, ServiceView } from "./model";

// Each file of this folder is an engine; another one needs no line elsewhere.
const files = import.meta.glob<{ engine: Engine }>("./*.tsx");

/** All engines and the watch over their services; loaded after the frame. */
const loaded = Promise.all(Object.values(files).map(async (load) => (await load()).engine)).then((engines) => ({
  engines,
  services: new Merged<ServiceView>(engines.map((engine) => new Watch(engine.watch(engine)))),
}));

/** The engines; suspends until they are there. */
export const useEngines = (): Engine[] => use(loaded).engines;

/** The services that the viewer may see, live. */
export function useServices(): Picture<ServiceView> & { retry: () => void } {
  const { services } = use(loaded);
  const picture = useSyncExternalStore(services.subscribe, services.get);
  return { ...picture, retry: services.retry };
}
