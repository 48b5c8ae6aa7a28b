import { useQuery } from "@tanstack/react-query";
import { everything } from "../api/pages";
import { api } from "./current";

// Whole lists, for choices, the search and tables of few rows. The API has no stream over them: they are asked again on focus.
const pageSize = 1_000;

/** Projects that the viewer may see. */
export const useProjects = () =>
  useQuery({
    queryKey: ["projects", "all"],
    queryFn: ({ signal }) =>
      everything("projects", (pageToken) => api.projects.listProjects({ pageSize, pageToken }, { signal })),
  });

/** All clusters. */
export const useClusters = () =>
  useQuery({
    queryKey: ["clusters"],
    queryFn: ({ signal }) =>
      everything("clusters", (pageToken) => api.clusters.listClusters({ pageSize, pageToken }, { signal })),
  });

/** Storage classes of `clusters/{cluster}`; nothing is asked for an empty name. */
export const useStorageClasses = (parent: string) =>
  useQuery({
    queryKey: ["storageClasses", parent],
    queryFn: ({ signal }) =>
      everything("storageClasses", (pageToken) =>
        api.storageClasses.listStorageClasses({ parent, pageSize, pageToken }, { signal }),
      ),
    enabled: parent !== "",
  });

/** The software catalogue. */
export const useCatalogue = () =>
  useQuery({
    queryKey: ["software", "all"],
    queryFn: ({ signal }) =>
      everything("software", (pageToken) => api.software.listSoftware({ pageSize, pageToken }, { signal })),
  });

/** All roles. */
export const useRoles = () =>
  useQuery({
    queryKey: ["roles"],
    queryFn: ({ signal }) =>
      everything("roles", (pageToken) => api.roles.listRoles({ pageSize, pageToken }, { signal })),
  });
