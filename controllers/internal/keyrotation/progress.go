package keyrotation

import (
	"encoding/json"
	"math"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

// maxNotes bounds the counts of one shard, so that sums cannot overflow.
const maxNotes = 1 << 40

// maxSecondsLeft is a year: beyond it, work has stopped rather than slowed.
const maxSecondsLeft = 365 * 24 * 3600

// sumProgress adds up what the shards of one Job reported, or returns nil if none did. Anyone who
// runs pods in the namespace can write the reports, so every number is bounded.
func sumProgress(data map[string]string, job string, shards int32) *v1alpha1.RotationProgress {
	var sum v1alpha1.RotationProgress
	var rate float64
	found := false
	for shard := range int(shards) {
		report := config.ShardProgress{}
		text := data[config.ShardProgressKey(shard)]
		if len(text) > 1024 || json.Unmarshal([]byte(text), &report) != nil || report.Job != job {
			continue
		}
		found = true
		total := min(max(report.NotesTotal, 0), maxNotes)
		sum.NotesTotal += total
		sum.NotesDone += min(max(report.NotesDone, 0), total)
		sum.Conflicts += min(max(report.Conflicts, 0), maxNotes)
		rate += math.Min(math.Max(report.NotesPerSecond, 0), maxNotes)
	}
	if !found {
		return nil
	}
	if sum.NotesTotal > 0 {
		sum.Percent = int32(sum.NotesDone * 100 / sum.NotesTotal) //nolint:gosec // at most 100: no shard has done more than its total
	}
	sum.NotesPerSecond = int64(math.Round(rate))
	if left := sum.NotesTotal - sum.NotesDone; left == 0 {
		sum.SecondsLeft = new(int64(0))
	} else if float64(left) <= rate*maxSecondsLeft {
		sum.SecondsLeft = new(min(int64(math.Ceil(float64(left)/rate)), maxSecondsLeft))
	}
	return &sum
}
