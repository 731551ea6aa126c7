package cause

import (
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

const (
	// maxEvents is the number of events of one object that are read.
	maxEvents = 100
	// maxEventAge is how old an event may be to describe the current state. Controllers repeat
	// events about lasting problems, but at most every five minutes.
	maxEventAge = 10 * time.Minute
	// readyzTimeout and maxReadyz limit the duration and the size of an answer of /readyz.
	readyzTimeout = time.Second
	maxReadyz     = 2048
)

// Lookup reads what is not cached, when a rule needs it. A read that fails is ignored. The zero
// value returns nothing. [Cache] limits how often a Lookup is used.
type Lookup struct {
	// Events returns the events about an object that may report problems, in any order.
	Events func(about client.Object) []corev1.Event
	// Readyz returns the answer of a pod that is not ready, or nothing if the pod cannot be asked.
	Readyz func(pod *corev1.Pod) string
	// Now is the clock of the operator.
	Now func() time.Time
}

// Live returns a Lookup that reads from the API server and the pods.
func Live(ctx context.Context, reader client.Reader, now func() time.Time) Lookup {
	return Lookup{
		Now: now,
		Events: func(about client.Object) []corev1.Event {
			list := &corev1.EventList{}
			fields := client.MatchingFields{"involvedObject.uid": string(about.GetUID())}
			if _, ok := about.(*corev1.PersistentVolumeClaim); !ok {
				fields["type"] = corev1.EventTypeWarning // some useful events of a claim are not warnings
			}
			err := reader.List(ctx, list, client.InNamespace(about.GetNamespace()), client.Limit(maxEvents), fields)
			if err != nil {
				return nil
			}
			return list.Items
		},
		Readyz: func(pod *corev1.Pod) string {
			host, ok := operand.PodAddress(pod)
			if !ok {
				return ""
			}
			return readyz(ctx, "http://"+net.JoinHostPort(host, strconv.Itoa(config.PortMetrics))+config.PathReady)
		},
	}
}

// latest returns the newest event about an object that match accepts and that is not too old, or
// nil.
func (l Lookup) latest(about client.Object, match func(corev1.Event) bool) *corev1.Event {
	if l.Events == nil {
		return nil
	}
	var newest *corev1.Event
	for _, event := range l.Events(about) {
		if match(event) && l.Now().Sub(lastSeen(event)) <= maxEventAge && (newest == nil || lastSeen(*newest).Before(lastSeen(event))) {
			newest = &event
		}
	}
	return newest
}

// message returns the message of the latest event with one of the reasons.
func (l Lookup) message(about client.Object, reasons ...string) string {
	event := l.latest(about, func(e corev1.Event) bool { return slices.Contains(reasons, e.Reason) })
	if event == nil {
		return ""
	}
	return event.Message
}

// lastSeen returns when an event last occurred. Old and new recorders write different fields.
func lastSeen(event corev1.Event) time.Time {
	times := []time.Time{event.CreationTimestamp.Time, event.FirstTimestamp.Time, event.LastTimestamp.Time, event.EventTime.Time}
	if event.Series != nil {
		times = append(times, event.Series.LastObservedTime.Time)
	}
	return slices.MaxFunc(times, func(a, b time.Time) int { return cmp.Compare(a.UnixNano(), b.UnixNano()) })
}

func (l Lookup) readyz(pod *corev1.Pod) string {
	if l.Readyz == nil {
		return ""
	}
	return l.Readyz(pod)
}

// prober sends requests only to pods: it follows no redirects and uses no proxy.
var prober = &http.Client{
	Timeout:       readyzTimeout,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10},
}

// readyz returns the answer of a service that is not ready.
func readyz(ctx context.Context, url string) string {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return ""
	}
	response, err := prober.Do(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable {
		return ""
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxReadyz))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(body))
}
