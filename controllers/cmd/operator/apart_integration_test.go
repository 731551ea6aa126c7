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

// maxApart bounds the namespaces that the shared operator does not watch.
const maxApart = 100

var apartNamespaces counter

func apartNamespace(n int) string { return fmt.Sprintf("apart-%d", n) }

// apartOptions say what a test gets besides its own operator and auth mount.
type apartOptions struct {
	// ownVault starts a separate Vault, with the default auth mount.
	ownVault bool
	// notSetUp does not run vault-setup.
	notSetUp bool
	// clusterID replaces the cluster's own id.
	clusterID string
	// connections are the addresses of additional connections to Vault.
	connections map[string]string
	// noOperator starts no operator.
	noOperator bool
}

// apart returns the shared API server with a separate operator, whose part of Vault no other test
// uses, and the namespace that only this operator watches.
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

// newApartNamespace creates a namespace that the shared operator does not watch.
func (c *cluster) newApartNamespace(t *testing.T) string {
	t.Helper()
	n := apartNamespaces.next()
	if n > maxApart {
		t.Fatalf("the shared operator excludes only %d namespaces: raise maxApart, or run the tests fewer times at once", maxApart)
	}
	name := apartNamespace(n)
	t.Logf("namespace %s", name)
	c.namespace(t, name)
	operatorLogs.showIfFailed(t, name)
	return name
}

// runSharedOperator runs the operator's controllers in all other namespaces.
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

// withoutMetrics is a manager whose controllers serve no metrics. The shared operator has
// registered them, which is possible once in a process.
type withoutMetrics struct{ ctrl.Manager }

func (m withoutMetrics) Add(runnable manager.Runnable) error {
	if _, metrics := runnable.(manager.RunnableFunc); metrics {
		return nil
	}
	return m.Manager.Add(runnable)
}

// runManager runs controllers until the test ends. as returns the manager that they are added to.
func (c *cluster) runManager(t testing.TB, config *operatorconfig.Config, wrap transport.WrapperFunc, change func(*ctrl.Options), as func(ctrl.Manager) ctrl.Manager) {
	t.Helper()
	options, err := managerOptions(config)
	if err != nil {
		t.Fatal(err)
	}
	options.Controller.SkipNameValidation = new(true)
	change(&options)
	// With the operator's own rights, so that a verb that config/rbac lacks is found here.
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
