package securenotes

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// readyzAnswers remember what a pod of each object has last said by /readyz. One pod of an object
// is asked in a pass, and no more than once in a retryInterval: a slow one delays little, and one
// that says something else each time is not a write each time.
type readyzAnswers struct {
	mu   sync.Mutex
	last map[types.UID]readyzAnswer
}

type readyzAnswer struct {
	pod   types.UID
	until time.Time
	words string
}

// ask returns a function for one pass over an object, which asks the first pod that it is called
// with.
func (a *readyzAnswers) ask(object types.UID, now time.Time, readyz func(*corev1.Pod) string) func(*corev1.Pod) string {
	asked := false
	return func(pod *corev1.Pod) string {
		if asked {
			return ""
		}
		asked = true
		if words, ok := a.get(object, pod.UID, now); ok {
			return words
		}
		words := readyz(pod)
		a.put(object, readyzAnswer{pod: pod.UID, until: now.Add(retryInterval), words: words})
		return words
	}
}

func (a *readyzAnswers) get(object, pod types.UID, now time.Time) (string, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	last, ok := a.last[object]
	return last.words, ok && last.pod == pod && now.Before(last.until)
}

func (a *readyzAnswers) put(object types.UID, last readyzAnswer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == nil {
		a.last = map[types.UID]readyzAnswer{}
	}
	a.last[object] = last
}

// drop forgets an object that is gone.
func (a *readyzAnswers) drop(object types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.last, object)
}
