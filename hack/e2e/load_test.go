//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/hack/notesclient"
	"github.com/securenotes/securenotes/hack/poll"
)

// load is a number of users of the sample who constantly write and read, at a limited rate.
type load struct {
	users []*loadUser
	stop  chan struct{}
	done  sync.WaitGroup
	// failed counts requests with a wrong answer. The first few errors are kept.
	failed atomic.Int64
	mu     sync.Mutex
	kept   []string
}

// loadUser records which of the user's notes were acknowledged, and which others the user tried to
// write.
type loadUser struct {
	*user
	acknowledged map[string]string // id to content
	tried        map[string]bool   // content
}

// startLoad signs in all users and starts the load.
func (c *cluster) startLoad(t testing.TB, users int) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	for range users {
		l.users = append(l.users, &loadUser{user: signUp(t, c.connect(t, c.url)), acknowledged: map[string]string{}, tried: map[string]bool{}})
	}
	for _, u := range l.users {
		l.done.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-l.stop:
					return
				case <-time.After(150 * time.Millisecond): // stays below the limit of requests per minute
				}
				l.step(u, i)
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) step(u *loadUser, i int) {
	content := fmt.Sprintf("%d %s", i, rand.Text())
	u.tried[content] = true
	created, err := u.CreateNote(context.Background(), notesclient.Content{Content: content})
	if err != nil {
		l.fail(err)
		return
	}
	u.acknowledged[created.ID] = content
	got, err := u.GetNote(context.Background(), created.ID)
	if err == nil && got.Content.Content != content {
		err = fmt.Errorf("note %s is %q, want %q", created.ID, got.Content.Content, content)
	}
	if err != nil {
		l.fail(err)
	}
}

func (l *load) fail(err error) {
	l.failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) < 5 {
		l.kept = append(l.kept, err.Error())
	}
}

// end stops the users and waits until they have stopped. It can be called twice.
func (l *load) end() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.done.Wait()
}

// noFailures ends the load and fails the test if a request failed.
func (l *load) noFailures(t testing.TB) {
	t.Helper()
	l.end()
	total := 0
	for _, u := range l.users {
		total += len(u.acknowledged)
	}
	t.Logf("%d notes written and read", total)
	if n := l.failed.Load(); n > 0 || total == 0 {
		t.Errorf("%d of about %d requests failed:\n%s", n, 2*total, strings.Join(l.kept, "\n"))
	}
}

// everyNoteIsThere ends the load and checks that every acknowledged note can be read, and that no
// note is duplicated or was never written.
func (l *load) everyNoteIsThere(t testing.TB) {
	t.Helper()
	l.end()
	for _, u := range l.users {
		if len(u.acknowledged) == 0 {
			t.Error("a user of the load has written no note")
		}
		seen, page := map[string]bool{}, &notesclient.Page{}
		for first := true; first || page.NextCursor != ""; first = false {
			cursor := page.NextCursor
			retry(t, func(ctx context.Context) error {
				got, err := u.ListNotes(ctx, 200, cursor)
				if err == nil {
					page = got
				}
				return err
			})
			for _, listed := range page.Notes {
				content := u.read(t, listed.ID)
				if seen[content] || !u.tried[content] {
					t.Errorf("note %s is a duplicate, or was never written: %q", listed.ID, content)
				}
				if want, ok := u.acknowledged[listed.ID]; ok && want != content {
					t.Errorf("note %s is %q, want %q", listed.ID, content, want)
				}
				seen[content] = true
				delete(u.acknowledged, listed.ID)
			}
		}
		for id := range u.acknowledged {
			t.Errorf("the acknowledged note %s is lost", id)
		}
	}
}

// TestRollingUpdateUnderLoad upgrades to the next release's image, and rolls back, while users
// write. No request may fail.
func TestRollingUpdateUnderLoad(t *testing.T) {
	c := open(t)
	c.ready(t, c.sample())
	next := os.Getenv("SECURENOTES_NEXT_IMAGE")
	_, tag, found := strings.Cut(next, ":")
	if !found {
		t.Fatalf("SECURENOTES_NEXT_IMAGE is %q, want an image with a tag: run these tests with `make test-e2e`", next)
	}
	before := c.apiPods(t, c.namespace, c.name)[0].Spec.Containers[0].Image
	if before == next {
		t.Fatalf("the sample runs %s already", next)
	}
	t.Cleanup(func() { c.upgrade(t) })
	l := c.startLoad(t, 4)
	for _, update := range []struct {
		image  string
		values []string
	}{{next, []string{"--set", "operand.image.tag=" + tag}}, {before, nil}} {
		c.upgrade(t, update.values...)
		poll.Eventually(t, 5*time.Minute, "both pods, and no others, to run "+update.image, func(context.Context) error {
			pods := c.apiPods(t, c.namespace, c.name)
			for _, pod := range pods {
				if pod.Spec.Containers[0].Image != update.image || !isReady(pod) {
					return fmt.Errorf("pod %s runs %s", pod.Name, pod.Spec.Containers[0].Image)
				}
			}
			if n := len(strings.Fields(kubectl(t, "-n", c.namespace, "get", "pods", "-l", "app.kubernetes.io/component=api", "-o", "name"))); n != 2 {
				return fmt.Errorf("%d pods", n)
			}
			return nil
		})
	}
	l.noFailures(t)
	l.everyNoteIsThere(t)
	c.ready(t, c.sample())
}

// TestCertificateRenewalUnderLoad checks that the service uses a renewed certificate without a
// restart and without a failed request.
func TestCertificateRenewalUnderLoad(t *testing.T) {
	c := open(t)
	c.ready(t, c.sample())
	pods := c.apiPods(t, c.namespace, c.name)
	addresses := map[string]string{}
	for _, pod := range pods {
		addresses[pod.Name], _ = forward(t, c.namespace, "pod/"+pod.Name, "8443")
	}
	serial := func(pod string) (*big.Int, error) {
		conn, err := tls.Dial("tcp", addresses[pod], &tls.Config{RootCAs: trusted(t, c.ca), ServerName: "localhost"})
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber, nil
	}
	before, err := serial(pods[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	l := c.startLoad(t, 2)
	c.renewCertificate(t)
	for _, pod := range pods {
		poll.Eventually(t, 4*time.Minute, "pod "+pod.Name+" to serve the new certificate", func(context.Context) error {
			got, err := serial(pod.Name)
			if err == nil && got.Cmp(before) == 0 {
				err = fmt.Errorf("the service still uses the certificate %s", got)
			}
			return err
		})
	}
	l.noFailures(t)
	for i, pod := range c.apiPods(t, c.namespace, c.name) {
		if pod.UID != pods[i].UID || restarts(pod) != restarts(pods[i]) {
			t.Errorf("pod %s was restarted", pod.Name)
		}
	}
}

// renewCertificate makes cert-manager issue another certificate for the sample, and makes the
// kubelets of its pods fetch it.
func (c *cluster) renewCertificate(t testing.TB) {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace}}
	secret.Name = kubectl(t, "-n", c.namespace, "get", "certificate", c.name+"-tls", "-o", "jsonpath={.spec.secretName}")
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(secret), secret); err != nil {
		t.Fatal(err)
	}
	before := secret.ResourceVersion
	// This is what `cmctl renew` does.
	patch := fmt.Sprintf(`[{"op":"add","path":"/status/conditions/-","value":{"type":"Issuing","status":"True","reason":"ManuallyTriggered","message":"test","lastTransitionTime":%q}}]`,
		time.Now().UTC().Format(time.RFC3339))
	kubectl(t, "-n", c.namespace, "patch", "certificate", c.name+"-tls", "--subresource=status", "--type=json", "-p", patch)
	poll.Eventually(t, time.Minute, "cert-manager to issue a certificate", func(ctx context.Context) error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(secret), secret); err != nil {
			return err
		}
		if secret.ResourceVersion == before {
			return fmt.Errorf("Secret %s has not changed", secret.Name)
		}
		return nil
	})
	// A kubelet checks a Secret about once a minute, but at once for a pod that changes.
	for _, pod := range c.apiPods(t, c.namespace, c.name) {
		old := pod.DeepCopy()
		metav1.SetMetaDataAnnotation(&pod.ObjectMeta, "example.com/certificate", secret.ResourceVersion)
		if err := c.Patch(t.Context(), &pod, client.MergeFrom(old)); err != nil {
			t.Fatal(err)
		}
	}
}

func restarts(pod corev1.Pod) int32 {
	var n int32
	for _, status := range pod.Status.ContainerStatuses {
		n += status.RestartCount
	}
	return n
}

// kills is how many pods are killed under load. The service has two: each is killed several times,
// and while both restart the service is down.
const kills = 8

// TestKilledInALoop kills pods without a grace period, one after another, while users write. Every
// acknowledged note must exist, and none may be duplicated.
func TestKilledInALoop(t *testing.T) {
	c := open(t)
	c.ready(t, c.sample())
	l := c.startLoad(t, 4)
	for range kills {
		poll.Eventually(t, 2*time.Minute, "a serving pod to kill", func(context.Context) error {
			for _, pod := range c.apiPods(t, c.namespace, c.name) {
				if isReady(pod) {
					kubectl(t, "-n", c.namespace, "delete", "pod", pod.Name, "--grace-period=0", "--force")
					return nil
				}
			}
			return errors.New("no pod is ready")
		})
	}
	l.end()
	c.ready(t, c.sample())
	l.everyNoteIsThere(t)
}
