//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// load is some users of the sample who write and read all the time, bounded in rate and number.
type load struct {
	users []*loadUser
	stop  chan struct{}
	done  sync.WaitGroup
	// failed counts requests that were not answered as they should be; the first few are kept.
	failed atomic.Int64
	mu     sync.Mutex
	kept   []string
}

// loadUser knows which of the user's notes were acknowledged, and what was tried besides.
type loadUser struct {
	*notesClient
	acknowledged map[string]string // id to content
	tried        map[string]bool   // content
}

// startLoad begins with each user signed in.
func (c *cluster) startLoad(t testing.TB, users int) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	for range users {
		u := &loadUser{notesClient: c.clientAt(t, c.url), acknowledged: map[string]string{}, tried: map[string]bool{}}
		u.signIn(t, rand.Text())
		l.users = append(l.users, u)
	}
	for _, u := range l.users {
		l.done.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-l.stop:
					return
				case <-time.After(150 * time.Millisecond): // below the limit of requests a minute
				}
				l.step(u, i)
			}
		})
	}
	t.Cleanup(func() { l.end() })
	return l
}

func (l *load) step(u *loadUser, i int) {
	content := fmt.Sprintf("%d %s", i, rand.Text())
	u.tried[content] = true
	status, answer, err := u.call(http.MethodPost, "/api/notes", map[string]any{"content": content})
	if err != nil || status != http.StatusCreated {
		l.fail("create", status, answer, err)
		return
	}
	id := answer["id"].(string)
	u.acknowledged[id] = content
	status, answer, err = u.call(http.MethodGet, "/api/notes/"+id, nil)
	if err != nil || status != http.StatusOK || answer["content"] != content {
		l.fail("read", status, answer, err)
	}
}

func (l *load) fail(what string, status int, answer map[string]any, err error) {
	l.failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) < 5 {
		l.kept = append(l.kept, fmt.Sprintf("%s: status %d %v %v", what, status, answer["error"], err))
	}
}

// end stops the users and waits for them; it can be called twice.
func (l *load) end() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.done.Wait()
}

// noFailures ends the load and fails if one request did.
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

// everyNoteIsThere ends the load and shows that every acknowledged note reads back, and that no note
// is there twice or out of nowhere.
func (l *load) everyNoteIsThere(t testing.TB) {
	t.Helper()
	l.end()
	for _, u := range l.users {
		seen, cursor := map[string]bool{}, ""
		for page := 0; page == 0 || cursor != ""; page++ {
			answer := u.must(t, http.StatusOK, http.MethodGet, "/api/notes?limit=200&cursor="+cursor, nil)
			for _, entry := range answer["notes"].([]any) {
				id := entry.(map[string]any)["id"].(string)
				content, _ := u.must(t, http.StatusOK, http.MethodGet, "/api/notes/"+id, nil)["content"].(string)
				if seen[content] || !u.tried[content] {
					t.Errorf("note %s is there twice, or was never written: %q", id, content)
				}
				if want, ok := u.acknowledged[id]; ok && want != content {
					t.Errorf("note %s is %q, want %q", id, content, want)
				}
				seen[content] = true
				delete(u.acknowledged, id)
			}
			cursor, _ = answer["next_cursor"].(string)
		}
		for id := range u.acknowledged {
			t.Errorf("the acknowledged note %s is lost", id)
		}
	}
}

// TestRollingUpdateUnderLoad has the platform team upgrade to the next release's image, and roll back, while users
// write: not one request may fail.
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
		eventually(t, 5*time.Minute, "both pods, and no others, to run "+update.image, func(context.Context) error {
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

// TestCertificateRenewalUnderLoad: the new certificate is served without a restart and without a
// failed request.
func TestCertificateRenewalUnderLoad(t *testing.T) {
	c := open(t)
	c.ready(t, c.sample())
	serial := func() *big.Int {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(c.url, "https://"), &tls.Config{RootCAs: trusted(t, c.ca)})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber
	}
	before, pods := serial(), c.apiPods(t, c.namespace, c.name)
	l := c.startLoad(t, 2)
	// What `cmctl renew` does.
	patch := fmt.Sprintf(`[{"op":"add","path":"/status/conditions/-","value":{"type":"Issuing","status":"True","reason":"ManuallyTriggered","message":"test","lastTransitionTime":%q}}]`,
		time.Now().UTC().Format(time.RFC3339))
	kubectl(t, "-n", c.namespace, "patch", "certificate", c.name+"-tls", "--subresource=status", "--type=json", "-p", patch)
	renewed := 0
	eventually(t, 4*time.Minute, "every pod to serve the new certificate", func(context.Context) error {
		if serial().Cmp(before) == 0 {
			renewed = 0
		} else {
			renewed++
		}
		if renewed < 20 { // connections are spread over the pods
			return fmt.Errorf("an old certificate was served %d connections ago", renewed)
		}
		return nil
	})
	l.noFailures(t)
	for i, pod := range c.apiPods(t, c.namespace, c.name) {
		if pod.UID != pods[i].UID || restarts(pod) != restarts(pods[i]) {
			t.Errorf("pod %s was restarted", pod.Name)
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

// killFor is how long pods are killed under load.
const killFor = 2 * time.Minute

// TestKilledInALoop kills pods without warning, one after another, while users write: whatever was
// acknowledged is there, and nothing is there twice.
func TestKilledInALoop(t *testing.T) {
	c := open(t)
	c.ready(t, c.sample())
	l := c.startLoad(t, 4)
	kills := 0
	for end := time.Now().Add(killFor); time.Now().Before(end); kills++ {
		eventually(t, 2*time.Minute, "a pod to kill that serves", func(context.Context) error {
			for _, pod := range c.apiPods(t, c.namespace, c.name) {
				if isReady(pod) {
					kubectl(t, "-n", c.namespace, "delete", "pod", pod.Name, "--grace-period=0", "--force")
					return nil
				}
			}
			return fmt.Errorf("no pod is ready")
		})
	}
	l.end()
	c.ready(t, c.sample())
	t.Logf("%d pods killed", kills)
	l.everyNoteIsThere(t)
}
