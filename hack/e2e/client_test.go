//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"
)

// notesClient is one user of one notes API, who verifies its certificate.
type notesClient struct {
	url   string
	http  *http.Client
	token string
	// credentials are of the user that signIn registered.
	credentials map[string]string
}

func trusted(t testing.TB, caFile string) *x509.CertPool {
	t.Helper()
	raw, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		t.Fatalf("%s holds no certificate", caFile)
	}
	return pool
}

func (c *cluster) clientAt(t testing.TB, url string) *notesClient {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted(t, c.ca), MinVersion: tls.VersionTLS13}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &notesClient{url: url, http: &http.Client{Timeout: 20 * time.Second, Transport: transport}}
}

// call makes a request and returns status and decoded body.
func (n *notesClient) call(method, path string, body any) (int, map[string]any, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	request, err := http.NewRequest(method, n.url+path, bytes.NewReader(raw))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if n.token != "" {
		request.Header.Set("Authorization", "Bearer "+n.token)
	}
	response, err := n.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer := map[string]any{}
	err = json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&answer)
	return response.StatusCode, answer, err
}

// must is call that wants one status. A pod that is just being replaced is waited for, and so is the
// end of a limit, unless that is what is wanted.
func (n *notesClient) must(t testing.TB, want int, method, path string, body any) map[string]any {
	t.Helper()
	var answer map[string]any
	eventually(t, 90*time.Second, method+" "+path, func(context.Context) error {
		status, got, err := n.call(method, path, body)
		if err != nil {
			return err
		}
		if answer = got; status == want {
			return nil
		}
		if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
			return fmt.Errorf("status %d: %v", status, got)
		}
		t.Fatalf("%s %s: status %d, want %d: %v", method, path, status, want, got)
		return nil
	})
	return answer
}

// mustNow is one call that wants one status.
func (n *notesClient) mustNow(t testing.TB, want int, method, path string, body any) {
	t.Helper()
	if status, got, err := n.call(method, path, body); err != nil || status != want {
		t.Fatalf("%s %s: status %d, want %d: %v %v", method, path, status, want, got, err)
	}
}

// signIn registers a new user with the password, and logs in.
func (n *notesClient) signIn(t testing.TB, password string) {
	t.Helper()
	n.credentials = map[string]string{"username": "user-" + rand.Text()[:12], "password": password}
	n.must(t, http.StatusCreated, http.MethodPost, "/api/auth/register", n.credentials)
	n.logIn(t)
}

func (n *notesClient) logIn(t testing.TB) {
	t.Helper()
	n.token = n.must(t, http.StatusOK, http.MethodPost, "/api/auth/login", n.credentials)["token"].(string)
}

func (n *notesClient) write(t testing.TB, content, title string) string {
	t.Helper()
	return n.must(t, http.StatusCreated, http.MethodPost, "/api/notes", map[string]any{"content": content, "title": title})["id"].(string)
}

// reads fails unless every note reads back as it was written.
func (n *notesClient) reads(t testing.TB, notes map[string]string) {
	t.Helper()
	for id, want := range notes {
		if got := n.must(t, http.StatusOK, http.MethodGet, "/api/notes/"+id, nil)["content"]; got != want {
			t.Errorf("note %s is %q, want %q", id, got, want)
		}
	}
}

var forwarding = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+)`)

// forward opens a port of a pod or Service on a free port of loopback until the test ends or close
// is called.
func forward(t testing.TB, namespace, target, port string) (address string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "kubectl", "-n", namespace, "port-forward", "--address", "127.0.0.1", target, ":"+port)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop = func() {
		if !ended {
			ended = true
			cancel()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if match := forwarding.FindStringSubmatch(lines.Text()); match != nil {
			go func() { // kubectl reports every connection
				for lines.Scan() {
					continue
				}
			}()
			return match[1], stop
		}
	}
	t.Fatalf("kubectl port-forward %s/%s %s gave no address", namespace, target, port)
	return "", nil
}
