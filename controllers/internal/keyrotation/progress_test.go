package keyrotation

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

func TestSumProgress(t *testing.T) {
	t.Parallel()
	seconds := func(n int64) *int64 { return &n }
	for name, tc := range map[string]struct {
		data map[string]string
		want *v1alpha1.RotationProgress
	}{
		"nothing reported":   {data: nil, want: nil},
		"another Job's":      {data: map[string]string{"shard-0": `{"job":"old","notesTotal":5}`}, want: nil},
		"not JSON":           {data: map[string]string{"shard-0": `boo`}, want: nil},
		"a shard too many":   {data: map[string]string{"shard-2": `{"job":"job","notesTotal":5}`}, want: nil},
		"summed":             {data: map[string]string{"shard-0": `{"job":"job","notesDone":5,"notesTotal":10,"notesPerSecond":1,"conflicts":4}`, "shard-1": `{"job":"job","notesDone":0,"notesTotal":10,"notesPerSecond":2,"conflicts":5}`}, want: &v1alpha1.RotationProgress{NotesDone: 5, NotesTotal: 20, Percent: 25, NotesPerSecond: 3, SecondsLeft: seconds(5), Conflicts: 9}},
		"slow":               {data: map[string]string{"shard-0": `{"job":"job","notesDone":5,"notesTotal":10,"notesPerSecond":0.25}`}, want: &v1alpha1.RotationProgress{NotesDone: 5, NotesTotal: 10, Percent: 50, SecondsLeft: seconds(20)}},
		"stopped":            {data: map[string]string{"shard-0": `{"job":"job","notesDone":5,"notesTotal":10,"notesPerSecond":1e-300}`}, want: &v1alpha1.RotationProgress{NotesDone: 5, NotesTotal: 10, Percent: 50}},
		"more done than all": {data: map[string]string{"shard-0": `{"job":"job","notesDone":50,"notesTotal":10}`}, want: &v1alpha1.RotationProgress{NotesDone: 10, NotesTotal: 10, Percent: 100, SecondsLeft: seconds(0)}},
		"negative":           {data: map[string]string{"shard-0": `{"job":"job","notesDone":-5,"notesTotal":-10,"notesPerSecond":-1,"conflicts":-1}`}, want: &v1alpha1.RotationProgress{SecondsLeft: seconds(0)}},
		"enough to overflow": {data: map[string]string{"shard-0": `{"job":"job","notesDone":1,"notesTotal":9223372036854775807,"conflicts":9223372036854775807}`, "shard-1": `{"job":"job","notesTotal":9223372036854775807,"conflicts":9223372036854775807}`}, want: &v1alpha1.RotationProgress{NotesDone: 1, NotesTotal: 2 * maxNotes, Conflicts: 2 * maxNotes}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, sumProgress(tc.data, "job", 2)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
