//go:build integration

package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operatorconfig"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
	"github.com/securenotes/securenotes/hack/testenv"
)

const (
	operatorNamespace = "securenotes-system"
	operatorAccount   = "securenotes-operator"
)

// cluster is an API server with its etcd, a Vault that trusts it, and the operator between them. No
// kubelet and no other controller runs: tests play their parts.
type cluster struct {
	client.Client
	rest  *rest.Config
	kube  *kubernetes.Clientset
	vault *testenv.Vault
	id    string
	// writes counts what the operator has written since it was last reset.
	writes *writeCounter
	config *operatorconfig.Config
	// manager is the operator's, once it is started.
	manager ctrl.Manager
}

type writeCounter struct {
	mu   sync.Mutex
	seen []string
	also transport.WrapperFunc
}

// beside puts another wrapper around what follows; nil takes it away.
func (w *writeCounter) beside(also transport.WrapperFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.also = also
}

func (w *writeCounter) around(next http.RoundTripper) http.RoundTripper {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.also == nil {
		return next
	}
	return w.also(next)
}

func (w *writeCounter) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		// Leases are how leaders are elected, events are what is told: neither is an object's state.
		if request.Method != http.MethodGet && !strings.Contains(request.URL.Path, "/leases") && !strings.Contains(request.URL.Path, "/events") {
			w.mu.Lock()
			w.seen = append(w.seen, request.Method+" "+request.URL.Path)
			w.mu.Unlock()
		}
		return w.around(next).RoundTrip(request)
	})
}

func (w *writeCounter) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	w.seen = nil
	return seen
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// startCluster starts the API server and Vault; Vault is not set up yet.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	return startClusterBeside(t, testenv.StartVault(t))
}

// startClusterBeside starts an API server beside a Vault that may be another cluster's, too.
func startClusterBeside(t *testing.T, vault *testenv.Vault) *cluster {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Fatal("KUBEBUILDER_ASSETS is not set: run these tests with `make test-integration`, which starts the real servers")
	}
	environment := &envtest.Environment{
		CRDDirectoryPaths:     []string{"../../../config/crd/bases", certManagerCRDs(t)},
		ErrorIfCRDPathMissing: true,
	}
	configuration, err := environment.Start()
	if err != nil {
		t.Fatalf("start the API server: %v", err)
	}
	t.Cleanup(func() {
		if err := environment.Stop(); err != nil {
			t.Errorf("stop the API server: %v", err)
		}
	})
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{rest: configuration, vault: vault, writes: &writeCounter{}}
	if c.Client, err = client.New(configuration, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	if c.kube, err = kubernetes.NewForConfig(configuration); err != nil {
		t.Fatal(err)
	}
	c.namespace(t, operatorNamespace)
	c.serviceAccount(t, operatorNamespace, operatorAccount)
	c.grant(t)
	c.restrict(t)
	if c.id, err = clusterUID(t.Context(), c.Client); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(c.vault.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(c.token(t, operatorNamespace, operatorAccount, "vault")), 0o600); err != nil {
		t.Fatal(err)
	}
	c.config, err = operatorconfig.Parse(fmt.Appendf(nil, `
apiVersion: config.securenotes.dev/v1alpha1
kind: OperatorConfig
operandImage: securenotes.dev/securenotes:test
operatorNamespace: %s
operatorServiceAccount: %s
metricsBindAddress: %s
healthProbeBindAddress: 127.0.0.1:0
leaderElection: false
vaultConnections:
  default:
    address: %s
    tokenFile: %s
    caBundle: %q
  away:
    address: https://127.0.0.1:1
    tokenFile: %s
  hung:
    address: https://%s
    tokenFile: %s
`, operatorNamespace, operatorAccount, freeAddress(t), c.vault.Address, token, string(ca), token, hungAddress(t), token))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// hungAddress is one that accepts connections and never answers.
func hungAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String() // the kernel accepts
}

// freeAddress is one that nobody listens at now.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// grant gives the operator the rights of config/rbac.
func (c *cluster) grant(t *testing.T) {
	t.Helper()
	for _, file := range []string{"role.yaml", "role_binding.yaml"} {
		raw, err := os.ReadFile(filepath.Join("../../../config/rbac", file))
		if err != nil {
			t.Fatal(err)
		}
		for document := range bytes.SplitSeq(raw, []byte("\n---\n")) {
			object := &unstructured.Unstructured{}
			if err := yaml.Unmarshal(document, &object.Object); err != nil {
				t.Fatal(err)
			}
			if err := c.Create(t.Context(), object); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// startOperator runs the operator's controllers in this process.
func (c *cluster) startOperator(t *testing.T) {
	t.Helper()
	ctrl.SetLogger(logr.FromSlogHandler(slog.NewTextHandler(t.Output(), nil)))
	c.runManager(t, c.config, c.writes.wrap, func(manager ctrl.Manager) ctrl.Manager {
		c.manager = manager
		return manager
	})
}

// runManager runs controllers until the test ends; as gives the manager that they are added to.
func (c *cluster) runManager(t *testing.T, config *operatorconfig.Config, wrap transport.WrapperFunc, as func(ctrl.Manager) ctrl.Manager) {
	t.Helper()
	options, err := managerOptions(config)
	if err != nil {
		t.Fatal(err)
	}
	skip := true
	options.Controller.SkipNameValidation = &skip
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

// restrict installs the admission policies of the chart.
func (c *cluster) restrict(t *testing.T) {
	t.Helper()
	rendered := testenv.RenderChart(t, "../../../charts/securenotes-operator", operatorAccount, operatorNamespace,
		"operand.image.tag=test", "vaultConnections.default.address=https://vault.example.com")
	installed := 0
	for document := range bytes.SplitSeq(rendered, []byte("\n---\n")) {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &object.Object); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(object.GetKind(), "ValidatingAdmissionPolicy") {
			continue
		}
		if err := c.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
		installed++
	}
	if installed != 6 {
		t.Fatalf("the chart has %d admission policies and bindings", installed)
	}
}

// asOperator returns a client with the operator's own rights.
func (c *cluster) asOperator(t *testing.T) client.Client {
	t.Helper()
	own, err := client.New(c.impersonated(), client.Options{Scheme: c.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return own
}

func (c *cluster) impersonated() *rest.Config {
	configuration := rest.CopyConfig(c.rest)
	configuration.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + operatorNamespace + ":" + operatorAccount,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + operatorNamespace, "system:authenticated"},
	}
	configuration.QPS = -1
	return configuration
}

// setUpVault runs vault-setup. This Vault is outside the cluster: it is given a token reviewer,
// unless it has one of this cluster.
func (c *cluster) setUpVault(t *testing.T) string {
	t.Helper()
	c.serviceAccount(t, operatorNamespace, "vault")
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "vault-token-review"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:auth-delegator"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: "vault", Namespace: operatorNamespace}},
	}
	if err := c.Create(t.Context(), binding); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	setup, vault := c.setup(), c.vault.Client(t)
	configured, err := vault.Logical().Read("auth/kubernetes/config")
	if err != nil {
		t.Fatal(err)
	}
	if configured == nil || configured.Data["kubernetes_host"] != c.rest.Host {
		setup.TokenReviewerJWT, setup.ReplaceAPIServer = c.token(t, operatorNamespace, "vault"), configured != nil
	}
	var out bytes.Buffer
	if err := setup.Apply(t.Context(), vault, &out, false); err != nil {
		t.Fatalf("vault-setup: %v\n%s", err, out.String())
	}
	return out.String()
}

func (c *cluster) setup() vaultadmin.Setup {
	return vaultadmin.Setup{
		ClusterID: c.id, OperatorNamespace: operatorNamespace, OperatorServiceAccount: operatorAccount,
		AuthMount: defaultAuthMount, TransitMount: defaultTransitMount, KVMount: defaultKVMount, Audience: defaultAudience,
		KubernetesHost: c.rest.Host, KubernetesCA: string(c.rest.CAData), AllowShred: true,
	}
}

func (c *cluster) namespace(t *testing.T, name string) {
	t.Helper()
	if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

func (c *cluster) serviceAccount(t *testing.T, namespace, name string) {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if err := c.Create(t.Context(), account); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

// token of a service account, as the kubelet projects it.
func (c *cluster) token(t *testing.T, namespace, name string, audiences ...string) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: audiences}}
	answer, err := c.kube.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), name, request, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("token of %s/%s: %v", namespace, name, err)
	}
	return answer.Status.Token
}

// await polls until check has nothing to say any more.
func await(t *testing.T, what string, check func() string) {
	t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for {
		wrong := check()
		if wrong == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %s", what, wrong)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// awaitCondition waits for a condition of a SecureNotes and gives its message.
func (c *cluster) awaitCondition(t *testing.T, namespace, name, kind string, status metav1.ConditionStatus, reason string) string {
	t.Helper()
	message := ""
	await(t, fmt.Sprintf("%s/%s %s=%s/%s", namespace, name, kind, status, reason), func() string {
		sn := &v1alpha1.SecureNotes{}
		if err := c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: name}, sn); err != nil {
			return err.Error()
		}
		condition := meta.FindStatusCondition(sn.Status.Conditions, kind)
		if condition == nil || condition.Status != status || condition.Reason != reason {
			return fmt.Sprintf("%+v", sn.Status.Conditions)
		}
		message = condition.Message
		return ""
	})
	return message
}

func certManagerCRDs(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager").Output()
	if err != nil {
		t.Fatalf("find cert-manager's CRDs: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "deploy", "crds")
}
