package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/securenotes/securenotes/app/config"
)

// devServer runs the service of serve --dev on a directory until stop is called.
func devServer(t *testing.T, dir string) (client *http.Client, url string, stop func()) {
	t.Helper()
	client, url, cancel, ended := startDev(t, dir, serveCheaply)
	return client, url, func() {
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("serve --dev ended with %d", code)
		}
	}
}

// serveCommandLine is the command serve --dev itself.
func serveCommandLine(ctx context.Context, address, dir string) int {
	return run(ctx, []string{"serve", "--dev", "--listen", address, "--data", dir})
}

// serveCheaply runs serve --dev with cheap password hashes.
func serveCheaply(ctx context.Context, address, dir string) int {
	c, err := devDirectory(devOptions{listen: address, data: dir})
	if err != nil {
		return conclude(err)
	}
	return conclude(serveDirectory(ctx, cheapHashes(c), dir))
}

// cheapHashes sets a bcrypt cost below what a configuration may have. Under the race detector, a
// hash of the lowest allowed cost takes seconds.
func cheapHashes(c *config.Config) *config.Config {
	c.Auth.BcryptCost = bcrypt.MinCost
	return c
}

// startDev serves a directory. stop ends the server, and ended delivers its exit code.
func startDev(t *testing.T, dir string, serving func(ctx context.Context, address, dir string) int) (client *http.Client, url string, cancel func(), ended <-chan int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() { code <- serving(ctx, address, dir) }()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		if ca, err := os.ReadFile(filepath.Join(dir, "ca.crt")); err == nil {
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(ca)
			client = &http.Client{Transport: &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}, ForceAttemptHTTP2: true,
			}}
			if response, err := client.Get("https://" + address + "/api/notes"); err == nil {
				response.Body.Close()
				return client, "https://" + address, cancel, code
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("serve --dev does not answer")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func post(t *testing.T, client *http.Client, url, token, body string) map[string]any {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode >= 300 {
		t.Fatalf("POST %s: %d %v %v", url, response.StatusCode, answer, err)
	}
	if response.TLS.Version != tls.VersionTLS13 || response.ProtoMajor != 2 {
		t.Errorf("TLS %x, HTTP/%d; want TLS 1.3 and HTTP/2", response.TLS.Version, response.ProtoMajor)
	}
	return answer
}

// TestDevServer checks that notes survive a restart, and that no file of the directory contains
// their text.
func TestDevServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	client, url, stop := devServer(t, dir)
	credentials := `{"username":"alice","password":"correct horse battery"}`
	post(t, client, url+"/api/auth/register", "", credentials)
	token := post(t, client, url+"/api/auth/login", "", credentials)["token"].(string)
	id := post(t, client, url+"/api/notes", token, `{"content":"My secret note","title":"My secret title"}`)["id"].(string)
	stop()

	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, secret := range []string{"My secret", "correct horse battery", token} {
			if bytes.Contains(raw, []byte(secret)) {
				t.Errorf("%s holds %q", path, secret)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}

	client, url, cancel, ended := startDev(t, dir, serveCommandLine)
	request, err := http.NewRequest(http.MethodGet, url+"/api/notes/"+id, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil || !bytes.Contains(raw, []byte("My secret note")) {
		t.Errorf("after a restart: %d %s %v", response.StatusCode, raw, err)
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("serve --dev ended with %d", code)
	}
}

// TestDevPasswordsAreCostly checks the bcrypt cost that other tests lower.
func TestDevPasswordsAreCostly(t *testing.T) {
	c, err := devDirectory(devOptions{listen: "127.0.0.1:0", data: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Auth.BcryptCost, 12; got != want {
		t.Errorf("bcrypt has cost %d, want %d", got, want)
	}
}

func TestDevCertificateIsRenewed(t *testing.T) {
	dir := t.TempDir()
	start := time.Now()
	if err := ensureDevCertificate(dir, start); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		raw, err := os.ReadFile(filepath.Join(dir, "tls.crt"))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	first := read()
	for _, tc := range []struct {
		after   time.Duration
		renewed bool
	}{{after: time.Hour}, {after: devCertificateLife - time.Hour, renewed: true}} {
		if err := ensureDevCertificate(dir, start.Add(tc.after)); err != nil {
			t.Fatal(err)
		}
		if got := read() != first; got != tc.renewed {
			t.Errorf("after %s: renewed %t, want %t", tc.after, got, tc.renewed)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{
		{"serve"}, {"serve", "--dev", "--config", "x"}, {"migrate"}, {"nonsense"},
		{"reencrypt", "--config", "x"}, {"verify", "--config", "/nowhere", "--to-version", "2", "--strategy", "Rewrap"},
		{"reencrypt", "--config", "/nowhere", "--to-version", "0", "--strategy", "Rewrap"},
		{"reencrypt", "--config", "/nowhere", "--to-version", "2", "--strategy", "Other"},
	} {
		if code := run(context.Background(), args); code == 0 {
			t.Errorf("securenotes %s succeeded", strings.Join(args, " "))
		}
	}
}
