// Command volume-provisioner hands out directories of one host directory that every node of the
// test cluster mounts, so that a volume follows its pod to whichever node it lands on.
//
// It is for hack/kind only: all nodes are containers of one machine, so "shared storage" is a bind
// mount, and access modes are recorded but not enforced, as with any hostPath volume.
package main

import (
	"context"
	"flag"
	"os/signal"
	"syscall"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

func main() {
	root := flag.String("root", "/volumes", "directory of this container in which volumes are made")
	nodeRoot := flag.String("node-root", "/var/lib/securenotes-volumes", "the same directory, as every node names it")
	name := flag.String("name", "securenotes.dev/shared-directory", "provisioner name that storage classes refer to")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *name, directories{root: *root, nodeRoot: *nodeRoot}); err != nil {
		klog.FromContext(ctx).Error(err, "volume-provisioner stops")
		klog.FlushAndExit(klog.ExitFlushTimeout, 1)
	}
}

func run(ctx context.Context, name string, d directories) error {
	cfg, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	// One replica runs, so an election would only delay its first volume.
	controller.NewProvisionController(ctx, client, name, d, controller.LeaderElection(false)).Run(ctx)
	return nil
}
