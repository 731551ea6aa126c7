package keyrotation

import (
	"testing"

	"github.com/securenotes/securenotes/app/config"
)

// FuzzSumProgress: whatever two shards report, the CRD accepts the sum.
func FuzzSumProgress(f *testing.F) {
	f.Add(`{"job":"job","notesDone":5,"notesTotal":10,"notesPerSecond":1}`, `{"job":"job","notesTotal":9223372036854775807,"conflicts":-1}`)
	f.Add(`{"job":"job","notesTotal":1,"notesPerSecond":1e308}`, `{"job":"job","notesTotal":3,"notesPerSecond":5e-324}`)
	f.Fuzz(func(t *testing.T, one, two string) {
		sum := sumProgress(map[string]string{config.ShardProgressKey(0): one, config.ShardProgressKey(1): two}, "job", 2)
		if sum == nil {
			return
		}
		if sum.NotesDone < 0 || sum.NotesDone > sum.NotesTotal || sum.Percent < 0 || sum.Percent > 100 || sum.Conflicts < 0 ||
			sum.NotesPerSecond < 0 || sum.SecondsLeft != nil && (*sum.SecondsLeft < 0 || *sum.SecondsLeft > maxSecondsLeft) {
			t.Errorf("got %+v, want every number within its bounds", *sum)
		}
	})
}
