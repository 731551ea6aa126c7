package destination

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/securenotes/securenotes/app/config"
)

// serve starts a server that answers every request with handler, and returns a bucket of it. The
// bucket asks for its region if region is empty.
func serve(t *testing.T, region string, handler http.HandlerFunc) *bucket {
	t.Helper()
	s := httptest.NewTLSServer(handler)
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	caFile := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := t.TempDir()
	for _, file := range []string{"access-key-id", "secret-access-key"} {
		if err := os.WriteFile(filepath.Join(keys, file), []byte("key"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := New(config.Destination{ObjectStore: &config.ObjectStore{
		URL: s.URL + "/bucket" + region, CAFile: caFile, CredentialsDirectory: keys,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return d.(*bucket)
}

const inRegion = "?region=us-east-1"

// TestAnswersToOpenAreBounded checks that an answer that is not a file is read up to maxAnswer, and
// not for as long as the server sends.
func TestAnswersToOpenAreBounded(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		region string
		status int
	}{
		"a refusal":             {inRegion, http.StatusForbidden},
		"a file that is absent": {inRegion, http.StatusNotFound},
		"a wrong range":         {inRegion, http.StatusRequestedRangeNotSatisfiable},
		"an error":              {inRegion, http.StatusInternalServerError},
		"the region":            {"", http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var most atomic.Int64
			b := serve(t, tc.region, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.status)
				chunk := bytes.Repeat([]byte(" "), 64<<10)
				for sent := int64(0); sent < 64<<20; sent += int64(len(chunk)) {
					if _, err := w.Write(chunk); err != nil {
						return
					}
					most.Store(max(most.Load(), sent))
				}
			})
			if _, _, err := b.Open(t.Context(), manifestName(firstID)); err == nil {
				t.Error("there is no error")
			}
			// What is on the way when the client closes the connection is in buffers.
			if got := most.Load(); got > maxAnswer+32<<20 {
				t.Errorf("%d MiB of an answer were read, want about %d MiB", got>>20, maxAnswer>>20)
			}
		})
	}
}

// TestAListingTakesLittleMemory checks the memory for a page with as many elements as fit into an
// answer. It does not run beside other tests.
func TestAListingTakesLittleMemory(t *testing.T) {
	for _, element := range []string{"<Contents/>", "<CommonPrefixes/>", "<a>", "<x/>", "<Contents><Tags><x/></Tags></Contents>"} {
		t.Run(element, func(t *testing.T) {
			page := []byte("<ListBucketResult>" + strings.Repeat(element, (16<<20)/len(element)) + "</ListBucketResult>")
			b := serve(t, inRegion, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) })
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := b.List(t.Context())
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "XML tags") {
				t.Errorf("got %v, want %v and the limit", err, ErrUnavailable)
			}
			// All that was ever allocated, of which only a part was in use at once.
			if got := after.TotalAlloc - before.TotalAlloc; got > 128<<20 {
				t.Errorf("%d MiB were allocated", got>>20)
			}
		})
	}
}

// TestUnreadableObjects checks what the error says about an object that the credentials may read
// and S3 does not return.
func TestUnreadableObjects(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status int
		code   string
		want   string
	}{
		"in a cold storage class":         {http.StatusForbidden, "InvalidObjectState", "storage class"},
		"encrypted with a client's key":   {http.StatusBadRequest, "InvalidRequest", "SSE-C"},
		"of another owner, as any denial": {http.StatusForbidden, "AccessDenied", "s3:GetObject"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := serve(t, inRegion, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.status)
				_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", tc.code)
			})
			content, _, err := b.Open(t.Context(), archiveName(firstID))
			if err == nil {
				_ = content.Close()
			}
			if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), tc.code+"; ") || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %v and %q", err, ErrDenied, tc.want)
			}
		})
	}
}

// TestAFileMayBeLong checks that a file is not bounded by maxAnswer.
func TestAFileMayBeLong(t *testing.T) {
	t.Parallel()
	b := serve(t, inRegion, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(maxAnswer+1))
		w.Header().Set("Last-Modified", "Mon, 30 Nov 2026 13:42:00 GMT")
		_, _ = io.CopyN(w, zeros{}, maxAnswer+1)
	})
	if got := read(t, b, archiveName(firstID)); len(got) != maxAnswer+1 {
		t.Errorf("got %d bytes, want %d", len(got), maxAnswer+1)
	}
}
