// The storage provisioner of the test cluster: it serves the StorageClass upm-local with sparse files
// that hold an XFS file system each, so that capacity, expansion and a full disk are real.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "file with the address of the API server and the provisioner's identity")
	volumes := flag.String("volumes", "", "folder of the volumes: NODE/VOLUME/disk.img, mounted at NODE/VOLUME/mount")
	flag.Parse()
	if *kubeconfig == "" || *volumes == "" {
		flag.Usage()
		os.Exit(2)
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatalf("kubeconfig: %v", err)
	}
	// A test that creates fifty claims must not wait for the client's default of five requests a second.
	config.QPS, config.Burst = 50, 100
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		log.Fatalf("client: %v", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := newController(client, disks{root: *volumes}).run(ctx); err != nil {
		log.Fatal(err)
	}
}
