//go:build integration

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/transport"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/securenotes/securenotes/controllers/internal/operatorconfig"
	"github.com/securenotes/securenotes/hack/testenv"
)

// maxApart is how many namespaces the shared operator leaves to others.
const maxApart = 100

var apartNamespaces counter

func apartNamespace(n int) string { return fmt.Sprintf("apart-%d", n) }

// apartOptions are what a test has for itself besides an operator and an auth mount.
type apartOptions struct {
	// ownVault is a Vault of its own, at the default auth mount.
	ownVault bool
	// notSetUp leaves the auth mount, or the Vault, as it is before vault-setup has run.
	notSetUp bool
	// clusterID is another one than the cluster's own.
	clusterID string
	// connections are more connections to Vault, by their addresses.
	connections map[string]string
	// noOperator starts none.
	noOperator bool
}

// apart returns the shared API server with an operator of the test's own, which nothing that other
// tests do in Vault reaches, and the namespace that it watches, which the shared operator does not.
func apart(t *testing.T, options apartOptions) (*cluster, string) {
	t.Helper()
	base, err := startShared()
	if err != nil {
		t.Fatalf("start the shared servers: %v", err)
	}
	own := *base
	c := &own
	c.writes, c.manager = &writeCounter{}, nil
	namespace := c.newApartNamespace(t)
	c.authMount = strings.ReplaceAll(namespace, "-", "") // vault-setup escapes dashes in names of policies
	if options.ownVault {
		c.vault, c.authMount = testenv.StartVault(t), defaultAuthMount
	}
	c.config = c.configuration(t, options.connections)
	c.config.WatchNamespaces = []string{namespace}
	if options.clusterID != "" {
		c.id, c.config.ClusterID = options.clusterID, options.clusterID
	}
	if !options.notSetUp {
		c.setUpVault(t)
	}
	if !options.noOperator {
		c.runOperator(t, c.config, c.writes.wrap)
	}
	return c, namespace
}

// newApartNamespace creates a namespace that the shared operator leaves alone.
func (c *cluster) newApartNamespace(t *testing.T) string {
	t.Helper()
	n := apartNamespaces.next()
	if n > maxApart {
		t.Fatalf("the shared operator leaves only %d namespaces alone: raise maxApart, or run the tests fewer times at once", maxApart)
	}
	name := apartNamespace(n)
	t.Logf("namespace %s", name)
	c.namespace(t, name)
	operatorLogs.showIfFailed(t, name)
	return name
}

// runSharedOperator runs the operator's controllers in every namespace that is not left to others.
func (c *cluster) runSharedOperator(t testing.TB) {
	t.Helper()
	var others []fields.Selector
	for n := range maxApart {
		others = append(others, fields.OneTermNotEqualSelector("metadata.namespace", apartNamespace(n+1)))
	}
	c.runManager(t, c.config, c.writes.wrap, func(options *ctrl.Options) {
		options.Cache.DefaultFieldSelector = fields.AndSelectors(others...)
		options.Cache.ByObject[&certmanagerv1.ClusterIssuer{}] = cache.ByObject{Field: fields.Everything()} // it has no namespace
	}, func(manager ctrl.Manager) ctrl.Manager {
		c.manager = manager
		return manager
	})
}

// runOperator runs the operator's controllers in this process until the test ends, without metrics.
func (c *cluster) runOperator(t testing.TB, config *operatorconfig.Config, wrap transport.WrapperFunc) {
	t.Helper()
	c.runManager(t, config, wrap, func(options *ctrl.Options) { options.Metrics.BindAddress = "0" },
		func(m ctrl.Manager) ctrl.Manager { return withoutMetrics{m} })
}

// withoutMetrics is a manager whose controllers serve no metrics: they are registered once in a
// process, by the shared operator.
type withoutMetrics struct{ ctrl.Manager }

func (m withoutMetrics) Add(runnable manager.Runnable) error {
	if _, metrics := runnable.(manager.RunnableFunc); metrics {
		return nil
	}
	return m.Manager.Add(runnable)
}

// runManager runs controllers until the test ends; as returns the manager that they are added to.
func (c *cluster) runManager(t testing.TB, config *operatorconfig.Config, wrap transport.WrapperFunc, change func(*ctrl.Options), as func(ctrl.Manager) ctrl.Manager) {
	t.Helper()
	options, err := managerOptions(config)
	if err != nil {
		t.Fatal(err)
	}
	options.Controller.SkipNameValidation = new(true)
	change(&options)
	// With the operator's own rights, so that a verb that config/rbac forgot is found here.
	configuration := c.impersonated()
	configuration.Wrap(wrap)
	manager, err := ctrl.NewManager(configuration, options)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identify(t.Context(), config, c.Client)
	if err != nil {
		t.Fatal(err)
	}
	if err := addControllers(as(manager), config, id); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- manager.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the operator ended: %v", err)
		}
	})
}
