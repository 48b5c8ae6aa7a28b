package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func ours(volume *corev1.PersistentVolume) bool {
	return volume.Annotations[annotationProvisionedBy] == provisioner && volume.Spec.Local != nil && nodeOf(volume) != ""
}

// nodeOf is the node that a volume of ours is bound to.
func nodeOf(volume *corev1.PersistentVolume) string {
	if volume.Spec.NodeAffinity == nil || volume.Spec.NodeAffinity.Required == nil {
		return ""
	}
	for _, term := range volume.Spec.NodeAffinity.Required.NodeSelectorTerms {
		for _, expression := range term.MatchExpressions {
			if expression.Key == corev1.LabelHostname && len(expression.Values) == 1 {
				return expression.Values[0]
			}
		}
	}
	return ""
}

// reconcileVolume keeps a volume mounted while it may be used, and follows its reclaim policy when it is not any more.
func (c *controller) reconcileVolume(ctx context.Context, name string) error {
	volume, err := c.volumes.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	} else if err != nil {
		return err
	}
	if !ours(volume) {
		return nil
	}
	reclaim := volume.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete
	switch {
	case volume.DeletionTimestamp != nil:
		// Kubernetes protects a bound volume; the next event comes when it is free.
		if volume.Status.Phase == corev1.VolumeBound || !slices.Contains(volume.Finalizers, finalizer) {
			return nil
		}
		return c.discard(ctx, volume, reclaim)
	case volume.Status.Phase == corev1.VolumeReleased && reclaim:
		// The finalizer leads back here, so the data go before the object does.
		uid := volume.UID
		err := c.client.CoreV1().PersistentVolumes().Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	default:
		capacity := volume.Spec.Capacity[corev1.ResourceStorage]
		_, err := c.disks.ensure(ctx, nodeOf(volume), name, capacity.Value())
		return err
	}
}

// discard lets go of a volume whose object is being deleted: with its data, or leaving the file where it is.
func (c *controller) discard(ctx context.Context, volume *corev1.PersistentVolume, data bool) error {
	node := nodeOf(volume)
	if err := c.disks.unmount(ctx, node, volume.Name); err != nil {
		return err
	}
	if data {
		if err := c.disks.remove(node, volume.Name); err != nil {
			return err
		}
	}
	left := slices.DeleteFunc(slices.Clone(volume.Finalizers), func(f string) bool { return f == finalizer })
	patch := map[string]any{"metadata": map[string]any{"resourceVersion": volume.ResourceVersion, "finalizers": left}}
	if _, err := c.patchVolume(ctx, volume.Name, patch); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	log.Printf("%s: let go, data removed: %t", volume.Name, data)
	return nil
}

func (c *controller) patchVolume(ctx context.Context, name string, change map[string]any) (*corev1.PersistentVolume, error) {
	patch, err := json.Marshal(change)
	if err != nil {
		return nil, fmt.Errorf("encoding a change of the volume: %w", err)
	}
	return c.client.CoreV1().PersistentVolumes().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
}
