package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// Set by Kubernetes on claims that an external provisioner shall serve, and on which node.
	annotationProvisioner = "volume.kubernetes.io/storage-provisioner"
	annotationNode        = "volume.kubernetes.io/selected-node"
	// Set by the provisioner: Kubernetes then leaves the volume's deletion to it.
	annotationProvisionedBy = "pv.kubernetes.io/provisioned-by"
)

// reconcileClaim makes a volume for a claim that waits for one, and lets the volume of a bound claim grow.
func (c *controller) reconcileClaim(ctx context.Context, namespace, name string) error {
	claim, err := c.claims.PersistentVolumeClaims(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	} else if err != nil {
		return err
	}
	if claim.DeletionTimestamp != nil {
		return nil
	}
	if claim.Spec.VolumeName != "" {
		return c.grow(ctx, claim)
	}
	node := claim.Annotations[annotationNode]
	if claim.Annotations[annotationProvisioner] != provisioner || node == "" {
		return nil
	}
	if refusal := unsupported(claim); refusal != "" {
		c.events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", refusal)
		return nil
	}
	if err := c.provision(ctx, claim, node); err != nil {
		c.events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", err.Error())
		return err
	}
	return nil
}

// unsupported says why a claim can never be served, or nothing.
func unsupported(claim *corev1.PersistentVolumeClaim) string {
	spec := &claim.Spec
	switch {
	case spec.VolumeMode != nil && *spec.VolumeMode != corev1.PersistentVolumeFilesystem:
		return "only volumes with a file system are supported"
	case slices.Contains(spec.AccessModes, corev1.ReadWriteMany) || slices.Contains(spec.AccessModes, corev1.ReadOnlyMany):
		return "a volume of one node cannot be used by many"
	case spec.DataSource != nil || spec.DataSourceRef != nil:
		return "data sources are not supported"
	case spec.Selector != nil:
		return "selectors are not supported"
	}
	return ""
}

func (c *controller) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim, node string) error {
	class, err := c.client.StorageV1().StorageClasses().Get(ctx, *claim.Spec.StorageClassName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	volume := volumeFor(claim, node, *class.ReclaimPolicy)
	capacity := volume.Spec.Capacity[corev1.ResourceStorage]
	volume.Spec.Local.Path, err = c.disks.ensure(ctx, node, volume.Name, capacity.Value())
	if err != nil {
		return err
	}
	_, err = c.client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	} else if err != nil {
		return err
	}
	log.Printf("%s/%s: made %s on %s with %s", claim.Namespace, claim.Name, volume.Name, node, capacity.String())
	c.events.Eventf(claim, corev1.EventTypeNormal, "ProvisioningSucceeded", "made volume %s on %s", volume.Name, node)
	return nil
}

// volumeFor is the volume of a claim, all but its path. Its name follows from the claim, so a second attempt finds the first.
func volumeFor(claim *corev1.PersistentVolumeClaim, node string, policy corev1.PersistentVolumeReclaimPolicy) *corev1.PersistentVolume {
	mode := corev1.PersistentVolumeFilesystem
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        "pvc-" + string(claim.UID),
			Annotations: map[string]string{annotationProvisionedBy: provisioner},
			Finalizers:  []string{finalizer},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes:                   claim.Spec.AccessModes,
			VolumeMode:                    &mode,
			StorageClassName:              *claim.Spec.StorageClassName,
			PersistentVolumeReclaimPolicy: policy,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{}},
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{
					Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
				}}}},
			}},
		},
	}
}

// grow makes the file system as large as the claim asks, while pods use it, and tells so in volume and claim.
func (c *controller) grow(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	volume, err := c.volumes.Get(claim.Spec.VolumeName)
	if apierrors.IsNotFound(err) {
		return nil
	} else if err != nil {
		return err
	}
	if !ours(volume) || claim.Status.Phase != corev1.ClaimBound {
		return nil
	}
	wanted := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	if wanted.Cmp(volume.Spec.Capacity[corev1.ResourceStorage]) > 0 {
		if err := c.disks.grow(ctx, nodeOf(volume), volume.Name, wanted.Value()); err != nil {
			c.events.Event(claim, corev1.EventTypeWarning, "VolumeResizeFailed", err.Error())
			return err
		}
		// Last, so that a crash before it repeats the growth.
		patch := map[string]any{"spec": map[string]any{"capacity": map[string]any{"storage": wanted.String()}}}
		if volume, err = c.patchVolume(ctx, volume.Name, patch); err != nil {
			return err
		}
		log.Printf("%s/%s: grew %s to %s", claim.Namespace, claim.Name, volume.Name, wanted.String())
		c.events.Eventf(claim, corev1.EventTypeNormal, "VolumeResizeSuccessful", "the file system has grown to %s", wanted.String())
	}
	return c.report(ctx, claim, volume.Spec.Capacity[corev1.ResourceStorage])
}

// report writes the volume's capacity into the claim's status.
func (c *controller) report(ctx context.Context, claim *corev1.PersistentVolumeClaim, capacity resource.Quantity) error {
	if capacity.Cmp(claim.Status.Capacity[corev1.ResourceStorage]) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{
		"capacity": map[string]any{"storage": capacity.String()},
		// It is not being resized any more.
		"conditions": []map[string]any{
			{"type": corev1.PersistentVolumeClaimResizing, "$patch": "delete"},
			{"type": corev1.PersistentVolumeClaimFileSystemResizePending, "$patch": "delete"},
		},
	}})
	if err != nil {
		return fmt.Errorf("encoding the claim's status: %w", err)
	}
	_, err = c.client.CoreV1().PersistentVolumeClaims(claim.Namespace).
		Patch(ctx, claim.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}
