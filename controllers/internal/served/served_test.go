package served

import (
	"net"
	"net/http/httptest"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestAt(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	want := server.Certificate()
	got, err := at(t.Context(), server.Listener.Addr().String())
	if err != nil || !got.NotAfter.Equal(want.NotAfter) || !got.NotBefore.Equal(want.NotBefore) || !slices.Equal(got.DNSNames, want.DNSNames) {
		t.Errorf("got %+v and error %v, want %s to %s for %v", got, err, want.NotBefore, want.NotAfter, want.DNSNames)
	}
}

// TestAtGivesUp: a pod that accepts a connection and never answers causes only a short delay.
func TestAtGivesUp(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if got, err := at(t.Context(), listener.Addr().String()); err == nil {
		t.Errorf("got %+v, want an error", got)
	}
}

// TestOnlyPodsAreAsked: without the address of a pod there is no connection.
func TestOnlyPodsAreAsked(t *testing.T) {
	t.Parallel()
	_, err := Of(t.Context(), &corev1.Pod{Status: corev1.PodStatus{PodIP: "127.0.0.1"}})
	if err == nil || err.Error() != "pod  has no address of its own" {
		t.Error(err)
	}
}
