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

	"github.com/securenotes/securenotes/controllers/internal/operand"
)

const (
	// maxEvents bounds what is read of the events of one object.
	maxEvents = 100
	// eventLife is how long an event tells how things are. Controllers repeat what stays wrong, but
	// no more than once in five minutes.
	eventLife = 10 * time.Minute
	// readyzTimeout and maxReadyz bound an answer of /readyz.
	readyzTimeout = time.Second
	maxReadyz     = 2048
)

// Look reads what is not cached, when a rule asks for it. What cannot be read is not a cause. The
// zero value sees nothing. [Memory] bounds how often one is asked.
type Look struct {
	// Events returns those about an object that may tell of trouble, in any order.
	Events func(about client.Object) []corev1.Event
	// Readyz returns what a pod answers that is not ready; empty if it cannot be asked.
	Readyz func(pod *corev1.Pod) string
	// Now is the operator's clock.
	Now func() time.Time
}

// Live looks past the cache.
func Live(ctx context.Context, reader client.Reader, now func() time.Time) Look {
	return Look{
		Now: now,
		Events: func(about client.Object) []corev1.Event {
			list := &corev1.EventList{}
			fields := client.MatchingFields{"involvedObject.uid": string(about.GetUID())}
			if _, ok := about.(*corev1.PersistentVolumeClaim); !ok {
				fields["type"] = corev1.EventTypeWarning // those of a claim are not all warnings
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
			return readyz(ctx, "http://"+net.JoinHostPort(host, strconv.Itoa(operand.MetricsPort))+"/readyz")
		},
	}
}

// latest returns the newest event about an object that is young enough to tell how it is now, of
// the reasons that count; nil: there is none.
func (l Look) latest(about client.Object, counts func(corev1.Event) bool) *corev1.Event {
	if l.Events == nil {
		return nil
	}
	var newest *corev1.Event
	for _, event := range l.Events(about) {
		if counts(event) && l.Now().Sub(at(event)) <= eventLife && (newest == nil || at(*newest).Before(at(event))) {
			newest = &event
		}
	}
	return newest
}

// said returns the words of the latest warning of one of the reasons.
func (l Look) said(about client.Object, reasons ...string) string {
	event := l.latest(about, func(e corev1.Event) bool { return slices.Contains(reasons, e.Reason) })
	if event == nil {
		return ""
	}
	return event.Message
}

// at is when an event was last seen; old and new recorders write different fields.
func at(event corev1.Event) time.Time {
	times := []time.Time{event.CreationTimestamp.Time, event.FirstTimestamp.Time, event.LastTimestamp.Time, event.EventTime.Time}
	if event.Series != nil {
		times = append(times, event.Series.LastObservedTime.Time)
	}
	return slices.MaxFunc(times, func(a, b time.Time) int { return cmp.Compare(a.UnixNano(), b.UnixNano()) })
}

func (l Look) readyz(pod *corev1.Pod) string {
	if l.Readyz == nil {
		return ""
	}
	return l.Readyz(pod)
}

// prober asks pods and nobody else: it follows no redirect and uses no proxy.
var prober = &http.Client{
	Timeout:       readyzTimeout,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10},
}

// readyz returns why a service is not ready, in its own words.
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
