package main

import (
	"context"
	"errors"
	"log"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
)

const (
	provisioner = "upm.local/provisioner"
	// While a volume carries it, its file may exist.
	finalizer = "upm.local/volume-data"
	workers   = 4
	// Volumes are looked at again so often, without an event.
	resync = 10 * time.Minute
)

// key names an object to look at: a claim has a namespace, a volume has none.
type key struct{ namespace, name string }

// controller drives claims and volumes towards what their objects say. It is level-triggered: every step asks
// the API and the disk for what is there, so it may end and start again at any point.
type controller struct {
	client   kubernetes.Interface
	disks    disks
	claims   listers.PersistentVolumeClaimLister
	volumes  listers.PersistentVolumeLister
	queue    workqueue.TypedRateLimitingInterface[key]
	events   record.EventRecorder
	informer informers.SharedInformerFactory
}

func newController(client kubernetes.Interface, d disks) *controller {
	factory := informers.NewSharedInformerFactory(client, resync)
	broadcaster := record.NewBroadcaster()
	broadcaster.StartRecordingToSink(&typedcore.EventSinkImpl{Interface: client.CoreV1().Events("")})
	c := &controller{
		client:   client,
		disks:    d,
		claims:   factory.Core().V1().PersistentVolumeClaims().Lister(),
		volumes:  factory.Core().V1().PersistentVolumes().Lister(),
		events:   broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: provisioner}),
		informer: factory,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[key](100*time.Millisecond, 15*time.Second)),
	}
	changed := cache.ResourceEventHandlerFuncs{
		AddFunc:    c.enqueue,
		UpdateFunc: func(_, object any) { c.enqueue(object) },
	}
	// Adding a handler fails only on an informer that was stopped.
	_, _ = factory.Core().V1().PersistentVolumeClaims().Informer().AddEventHandler(changed)
	_, _ = factory.Core().V1().PersistentVolumes().Informer().AddEventHandler(changed)
	return c
}

func (c *controller) enqueue(object any) {
	switch o := object.(type) {
	case *corev1.PersistentVolumeClaim:
		c.queue.Add(key{o.Namespace, o.Name})
	case *corev1.PersistentVolume:
		c.queue.Add(key{"", o.Name})
		// A change of the volume may be what its claim waits for.
		if o.Spec.ClaimRef != nil {
			c.queue.Add(key{o.Spec.ClaimRef.Namespace, o.Spec.ClaimRef.Name})
		}
	}
}

// run works until the context ends, and then until the workers have finished what they do.
func (c *controller) run(ctx context.Context) error {
	c.informer.Start(ctx.Done())
	for kind, synced := range c.informer.WaitForCacheSync(ctx.Done()) {
		if !synced && ctx.Err() == nil {
			return errors.New("cannot list " + kind.String())
		}
	}
	log.Printf("serving %s from %s", provisioner, c.disks.root)
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for c.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	c.queue.ShutDown()
	running.Wait()
	return nil
}

func (c *controller) next(ctx context.Context) bool {
	k, ended := c.queue.Get()
	if ended {
		return false
	}
	defer c.queue.Done(k)
	var err error
	if k.namespace == "" {
		err = c.reconcileVolume(ctx, k.name)
	} else {
		err = c.reconcileClaim(ctx, k.namespace, k.name)
	}
	if err != nil {
		log.Printf("%s: %v", strings.TrimPrefix(k.namespace+"/"+k.name, "/"), err)
		c.queue.AddRateLimited(k)
	} else {
		c.queue.Forget(k)
	}
	return true
}
