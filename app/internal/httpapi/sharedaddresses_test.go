package httpapi

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// watched are shared addresses with a clock and a log of the test.
type watched struct {
	*sharedAddresses
	registry *prometheus.Registry
	clock    time.Time
	log      bytes.Buffer
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{registry: prometheus.NewRegistry(), clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	shared, err := newSharedAddresses(slog.New(slog.NewTextHandler(&w.log, nil)), w.registry, func() time.Time { return w.clock })
	if err != nil {
		t.Fatal(err)
	}
	w.sharedAddresses = shared
	return w
}

// come makes users come from an address, each twice.
func (w *watched) come(address string, users int) {
	for i := range 2 * users {
		w.saw(address, fmt.Sprintf("user-%d", i%users))
	}
}

func (w *watched) want(t *testing.T, what string, warnings, counted int) {
	t.Helper()
	if got := strings.Count(w.log.String(), "level=WARN"); got != warnings {
		t.Errorf("%s: %d warnings, want %d: %s", what, got, warnings, w.log.String())
	}
	families, err := w.registry.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "securenotes_shared_client_addresses_total" {
		t.Fatalf("metrics: %v, %v", families, err)
	}
	if got := int(families[0].GetMetric()[0].GetCounter().GetValue()); got != counted {
		t.Errorf("%s: %d addresses counted, want %d", what, got, counted)
	}
}

func TestSharedPrivateAddressIsReported(t *testing.T) {
	for address, want := range map[string]int{
		"10.0.0.1": 1, "172.16.0.1": 1, "192.168.0.1": 1, "100.64.0.1": 1, "100.127.255.255": 1, "169.254.0.1": 1, "fd00::1": 1, "fe80::1": 1,
		"203.0.113.5": 0, "100.128.0.1": 0, "172.32.0.1": 0, "2001:db8::1": 0, "": 0, "unknown": 0,
	} {
		t.Run(address, func(t *testing.T) {
			w := newWatched(t)
			w.come(address, manyUsers-1)
			w.want(t, "too few users", 0, 0)
			w.come(address, manyUsers+1)
			w.want(t, "many users", want, want)
			if want > 0 && !strings.Contains(w.log.String(), "address="+address+" users=20") {
				t.Errorf("the warning does not name the address: %s", w.log.String())
			}
		})
	}
}

func TestSharedAddressesWarnOncePerHour(t *testing.T) {
	w := newWatched(t)
	w.come("10.0.0.1", manyUsers)
	w.come("10.0.0.2", manyUsers)
	w.come("10.0.0.1", 2*manyUsers)
	w.want(t, "two addresses in an hour", 1, 2)
	w.clock = w.clock.Add(sharedWindow - time.Second)
	w.come("10.0.0.3", manyUsers)
	w.want(t, "before the hour is over", 1, 3)
	w.clock = w.clock.Add(time.Second)
	w.come("10.0.0.1", manyUsers-1)
	w.want(t, "few users in the next hour", 1, 3)
	w.come("10.0.0.1", manyUsers)
	w.want(t, "many users in the next hour", 2, 4)
}

func TestSharedAddressesAreBounded(t *testing.T) {
	w := newWatched(t)
	for i := range 4 * maxAddresses {
		w.come(fmt.Sprintf("10.0.%d.%d", i>>8, i&0xff), 2*manyUsers)
	}
	if len(w.users) != maxAddresses {
		t.Errorf("%d addresses are held, want %d", len(w.users), maxAddresses)
	}
	for address, users := range w.users {
		if len(users) > manyUsers {
			t.Errorf("%d users of %s are stored, want at most %d", len(users), address, manyUsers)
		}
	}
	w.want(t, "more addresses than are watched", 1, maxAddresses)
}
