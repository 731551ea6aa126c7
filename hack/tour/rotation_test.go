package main

import (
	"testing"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

func TestProgress(t *testing.T) {
	from, to := int64(3), int64(4)
	for name, tc := range map[string]struct {
		status v1alpha1.KeyRotationStatus
		want   string
	}{
		"not seen yet": {v1alpha1.KeyRotationStatus{}, "waiting for the operator"},
		"queued":       {v1alpha1.KeyRotationStatus{State: "Queued"}, "Queued"},
		"rotating":     {v1alpha1.KeyRotationStatus{State: "RotatingKey", FromVersion: &from}, "RotatingKey, from version 3"},
		"in progress": {v1alpha1.KeyRotationStatus{State: "Reencrypting", FromVersion: &from, ToVersion: &to,
			Progress: &v1alpha1.RotationProgress{NotesDone: 1, NotesTotal: 4, Percent: 25}},
			"Reencrypting, from version 3 to 4, 1 of 4 notes (25 %)"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := progress(tc.status); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
