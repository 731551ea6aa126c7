//go:build integration

// The integration tests of the operator. Each can run alone:
//
//	make test-integration ARGS="-run '^TestTrim$$'"
//
// They share one API server with its etcd, one Vault that vault-setup has set up, and one operator
// in this process. These start with the first test that needs them, and end in TestMain. No kubelet
// and no other controller runs: the tests play their parts (play_integration_test.go).
//
// A test gets its namespace from shared(t), which returns the cluster and a new namespace. A test
// that changes what others rely on (the set-up of Vault, Vault itself), or that needs another
// configuration, calls apart(t, ...). It gets its own operator, auth mount or Vault, and namespaces
// that the shared operator does not watch (apart_integration_test.go).
//
// Tests call t.Parallel, so that their waits overlap. The exceptions run a command of the
// operator's program, which reads environment variables, measure memory, or keep the API server
// busy with large objects.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/securenotes/securenotes/controllers/internal/operatorconfig"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
	"github.com/securenotes/securenotes/hack/testenv"
)

const (
	operatorNamespace = "securenotes-system"
	operatorAccount   = "securenotes-operator"
	// testsAtOnce is how many tests run at the same time by default. They mostly wait.
	testsAtOnce = "8"
)

// lasting is the testing.TB of what tests share.
var lasting = &fixture{}

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", testsAtOnce); err != nil {
			panic(err)
		}
	}
	ctrl.SetLogger(logr.FromSlogHandler(slog.NewTextHandler(operatorLogs, nil)))
	code := m.Run()
	lasting.end()
	if err := lasting.failure(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// cluster is an API server, a Vault that trusts it, and the operator between them.
type cluster struct {
	client.Client
	rest  *rest.Config
	kube  *kubernetes.Clientset
	vault *testenv.Vault
	// id is the cluster id in the names of what the operator has in Vault. authMount is where the
	// operator and its pods log in.
	id, authMount string
	// writes records the writes of the operator.
	writes *writeCounter
	config *operatorconfig.Config
	// manager is the operator's manager, once it is started.
	manager ctrl.Manager
}

var startShared = sync.OnceValues(func() (c *cluster, err error) {
	ended := make(chan struct{})
	go func() { // which t.Fatal ends
		defer close(ended)
		c = startCluster(lasting, testenv.StartVault(lasting))
		c.setUpVault(lasting)
		c.runSharedOperator(lasting)
	}()
	<-ended
	return c, lasting.failure()
})

// shared returns the cluster that tests share, with its operator running and Vault set up, and a
// new namespace for this test alone.
func shared(t *testing.T) (*cluster, string) {
	t.Helper()
	c, err := startShared()
	if err != nil {
		t.Fatalf("start the shared servers: %v", err)
	}
	return c, c.newNamespace(t)
}

// startCluster starts an API server beside a Vault, and writes a configuration of the operator.
func startCluster(t testing.TB, vault *testenv.Vault) *cluster {
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
	c := &cluster{rest: configuration, vault: vault, authMount: defaultAuthMount, writes: &writeCounter{}}
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
	c.config = c.configuration(t, nil)
	return c
}

// configuration returns a configuration of an operator of the cluster. Besides its Vault and those
// of connections, by their addresses, it has the connection "away" to a Vault that does not exist.
// Metrics are served at a free address.
func (c *cluster) configuration(t testing.TB, connections map[string]string) *operatorconfig.Config {
	t.Helper()
	ca, err := os.ReadFile(c.vault.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(c.token(t, operatorNamespace, operatorAccount, defaultAudience)), 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Appendf(nil, `
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
    authMount: %s
    tokenFile: %s
    caBundle: %q
  away:
    address: https://127.0.0.1:1
    tokenFile: %s
`, operatorNamespace, operatorAccount, testenv.FreeAddress(t), c.vault.Address, c.authMount, token, string(ca), token)
	for name, address := range connections {
		text = fmt.Appendf(text, "  %s: {address: %q, tokenFile: %q}\n", name, address, token)
	}
	config, err := operatorconfig.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// grant gives the operator the rights of config/rbac.
func (c *cluster) grant(t testing.TB) {
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

// restrict installs the admission policies of the chart.
func (c *cluster) restrict(t testing.TB) {
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

// setUpVault runs vault-setup. This Vault is outside the cluster, so it gets a token reviewer,
// unless it has one of this cluster.
func (c *cluster) setUpVault(t testing.TB) string {
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
	configured, err := vault.Logical().Read("auth/" + c.authMount + "/config")
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

// operatorPolicy returns the name and the rules of the operator's policy in Vault.
func (c *cluster) operatorPolicy(t *testing.T) (name, rules string) {
	t.Helper()
	name = "securenotes-" + c.id + "-" + c.authMount + "-operator"
	rules, err := c.vault.Client(t).Sys().GetPolicy(name)
	if err != nil || rules == "" {
		t.Fatalf("policy %s: %q, %v", name, rules, err)
	}
	return name, rules
}

func (c *cluster) setup() vaultadmin.Setup {
	return vaultadmin.Setup{
		ClusterID: c.id, OperatorNamespace: operatorNamespace, OperatorServiceAccount: operatorAccount,
		AuthMount: c.authMount, TransitMount: defaultTransitMount, KVMount: defaultKVMount, Audience: defaultAudience,
		KubernetesHost: c.rest.Host, KubernetesCA: string(c.rest.CAData), AllowShred: true,
	}
}

var (
	capital    = regexp.MustCompile(`[A-Z]`)
	namespaces counter
)

// newNamespace creates a namespace with the name of the test. If the test fails, it prints what the
// operator has logged about the namespace.
func (c *cluster) newNamespace(t *testing.T) string {
	t.Helper()
	test, _, _ := strings.Cut(strings.TrimPrefix(t.Name(), "Test"), "/")
	words := strings.TrimPrefix(capital.ReplaceAllString(test, "-$0"), "-")
	name := fmt.Sprintf("%s-%d", strings.ToLower(words), namespaces.next())
	c.namespace(t, name)
	operatorLogs.showIfFailed(t, name)
	return name
}

// namespace creates a namespace unless it exists.
func (c *cluster) namespace(t testing.TB, name string) {
	t.Helper()
	if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

func (c *cluster) serviceAccount(t testing.TB, namespace, name string) {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if err := c.Create(t.Context(), account); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

// token returns a token of a service account, as the kubelet projects it.
func (c *cluster) token(t testing.TB, namespace, name string, audiences ...string) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: audiences}}
	answer, err := c.kube.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), name, request, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("token of %s/%s: %v", namespace, name, err)
	}
	return answer.Status.Token
}

func certManagerCRDs(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager").Output()
	if err != nil {
		t.Fatalf("find cert-manager's CRDs: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "deploy", "crds")
}

// fixture is a testing.TB that lasts as long as the tests of the package. It panics in a method
// that it does not implement.
type fixture struct {
	testing.TB

	mu       sync.Mutex
	cleanups []func()
	errs     []error
}

func (f *fixture) Helper() {}

func (f *fixture) Context() context.Context { return context.Background() }

func (f *fixture) Cleanup(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cleanups = append(f.cleanups, do)
}

func (f *fixture) TempDir() string {
	dir, err := os.MkdirTemp("", "securenotes-operator-")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (f *fixture) Error(args ...any) { f.fail(errors.New(fmt.Sprint(args...))) }

func (f *fixture) Errorf(format string, args ...any) { f.fail(fmt.Errorf(format, args...)) }

// Fatal ends the goroutine, which is not a test's.
func (f *fixture) Fatal(args ...any) {
	f.Error(args...)
	runtime.Goexit()
}

func (f *fixture) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

func (f *fixture) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
}

func (f *fixture) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.errs...)
}

// end runs the cleanups, the latest first.
func (f *fixture) end() {
	for len(f.cleanups) > 0 {
		last := len(f.cleanups) - 1
		do := f.cleanups[last]
		f.cleanups = f.cleanups[:last]
		do()
	}
}
