// Command cert-manager runs cert-manager's own controllers for Certificates of self-signed and CA
// issuers: what the test cluster of hack/kind needs where the official image cannot be pulled. The
// project's Go module publishes its controllers but not its commands, hence this wiring.
//
// ACME, Vault and Venafi issuers, the webhook and the CA injector are not here.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"maps"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/cert-manager/cert-manager/pkg/controller"
	"golang.org/x/sync/errgroup"

	// Each of these registers itself with the controller package.
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	_ "github.com/cert-manager/cert-manager/pkg/controller/clusterissuers"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
)

// workers per controller: a test cluster holds a handful of certificates.
const workers = 2

func main() {
	kubeconfig := flag.String("kubeconfig", "", "file to reach the API server with; empty means this pod's service account")
	namespace := flag.String("cluster-resource-namespace", "cert-manager", "namespace in which ClusterIssuers find their Secrets")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig, *namespace); err != nil {
		log.Fatalf("cert-manager stops: %v", err)
	}
}

func run(ctx context.Context, kubeconfig, namespace string) error {
	factory, err := controller.NewContextFactory(ctx, controller.ContextOptions{
		Kubeconfig:         kubeconfig,
		KubernetesAPIQPS:   50,
		KubernetesAPIBurst: 100,
		IssuerOptions:      controller.IssuerOptions{ClusterResourceNamespace: namespace},
		SchedulerOptions:   controller.SchedulerOptions{MaxConcurrentChallenges: 1},
	})
	if err != nil {
		return fmt.Errorf("reach the API server: %w", err)
	}

	known := controller.Known()
	names := slices.Sorted(maps.Keys(known))
	controllers := make(map[string]controller.Interface, len(names))
	for _, name := range names {
		if controllers[name], err = known[name](factory); err != nil {
			return fmt.Errorf("build controller %s: %w", name, err)
		}
	}

	// The informer factories are shared by all contexts of one factory; they may start only after
	// every controller has asked for the informers it needs.
	shared, err := factory.Build("cert-manager")
	if err != nil {
		return fmt.Errorf("build the shared context: %w", err)
	}
	shared.SharedInformerFactory.Start(ctx.Done())
	shared.KubeSharedInformerFactory.Start(ctx.Done())
	shared.HTTP01ResourceMetadataInformersFactory.Start(ctx.Done())

	log.Printf("running %d controllers: %s", len(names), strings.Join(names, ", "))
	group, ctx := errgroup.WithContext(ctx)
	for name, c := range controllers {
		group.Go(func() error {
			if err := c.Run(workers, ctx); err != nil {
				return fmt.Errorf("controller %s: %w", name, err)
			}
			return nil
		})
	}
	return group.Wait()
}
