package backups

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// backup returns a NotesBackup of the schedule that ended so many hours ago. condition is empty if
// it has not ended.
func backup(name, condition string, hours int) v1alpha1.NotesBackup {
	at := metav1.NewTime(noon.Add(-time.Duration(hours) * time.Hour))
	nb := v1alpha1.NotesBackup{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: at}}
	nb.Status.CreatedBy = v1alpha1.BackupBySchedule
	if condition != "" {
		nb.Status.CompletionTime = &at
		meta.SetStatusCondition(&nb.Status.Conditions, metav1.Condition{Type: condition, Status: metav1.ConditionTrue, Reason: condition})
	}
	return nb
}

func names(all []v1alpha1.NotesBackup) []string {
	var names []string
	for _, nb := range all {
		names = append(names, nb.Name)
	}
	slices.Sort(names)
	return names
}

func TestPrunable(t *testing.T) {
	t.Parallel()
	complete := func(hours int) v1alpha1.NotesBackup {
		return backup(fmt.Sprint("c", hours), v1alpha1.ConditionComplete, hours)
	}
	failed := func(hours int) v1alpha1.NotesBackup {
		return backup(fmt.Sprint("f", hours), v1alpha1.ConditionFailed, hours)
	}
	count := func(n int32) *v1alpha1.BackupKeep { return &v1alpha1.BackupKeep{Count: &n} }
	of := func(change func(*v1alpha1.NotesBackup), nb v1alpha1.NotesBackup) v1alpha1.NotesBackup {
		change(&nb)
		return nb
	}
	byHand := func(nb v1alpha1.NotesBackup) v1alpha1.NotesBackup {
		nb.Status.CreatedBy = ""
		return nb
	}
	var many, manyFailed []v1alpha1.NotesBackup
	for i := range 103 {
		many = append(many, complete(i))
	}
	for i := range 12 {
		manyFailed = append(manyFailed, failed(10+i))
	}
	for name, tc := range map[string]struct {
		all  []v1alpha1.NotesBackup
		keep *v1alpha1.BackupKeep
		want []string
	}{
		"the newest two are kept":              {all: []v1alpha1.NotesBackup{complete(3), complete(1), complete(2)}, keep: count(2), want: []string{"c3"}},
		"those younger than a day are kept":    {all: []v1alpha1.NotesBackup{complete(1), complete(23), complete(25)}, keep: &v1alpha1.BackupKeep{Age: "24h"}, want: []string{"c25"}},
		"either keeps one":                     {all: []v1alpha1.NotesBackup{complete(1), complete(2), complete(30), complete(40)}, keep: &v1alpha1.BackupKeep{Count: new(int32(3)), Age: "24h"}, want: []string{"c40"}},
		"the newest complete one is kept":      {all: []v1alpha1.NotesBackup{complete(100), failed(1)}, keep: &v1alpha1.BackupKeep{Age: "2h"}, want: nil},
		"an unreadable age keeps all":          {all: []v1alpha1.NotesBackup{complete(1), complete(100)}, keep: &v1alpha1.BackupKeep{Age: "a day"}, want: nil},
		"failed ones do not displace complete": {all: []v1alpha1.NotesBackup{failed(1), failed(2), failed(3), complete(4), complete(5)}, keep: count(2), want: nil},
		"ten failed ones are kept":             {all: append(manyFailed, complete(1)), keep: &v1alpha1.BackupKeep{Age: "1h"}, want: []string{"f20", "f21"}},
		"without keep, too":                    {all: manyFailed, want: []string{"f20", "f21"}},
		"failed ones of people do not count":   {all: append([]v1alpha1.NotesBackup{byHand(failed(0)), byHand(failed(30))}, manyFailed[:10]...), want: nil},
		"complete ones of people count":        {all: []v1alpha1.NotesBackup{byHand(complete(1)), byHand(complete(2)), complete(3), complete(4)}, keep: count(3), want: []string{"c4"}},
		"the end of a clock that was ahead":    {all: []v1alpha1.NotesBackup{complete(1), of(func(nb *v1alpha1.NotesBackup) { nb.Status.CompletionTime = &metav1.Time{Time: noon.Add(time.Hour)} }, complete(25))}, keep: &v1alpha1.BackupKeep{Age: "24h"}, want: []string{"c25"}},
		"without keep, 100 are kept":           {all: many, want: []string{"c100", "c101", "c102"}},
		"those of people are kept":             {all: []v1alpha1.NotesBackup{complete(1), of(func(nb *v1alpha1.NotesBackup) { nb.Status.CreatedBy = "" }, complete(2))}, keep: count(1), want: nil},
		"a label does not make it the operator's": {all: []v1alpha1.NotesBackup{complete(1), of(func(nb *v1alpha1.NotesBackup) {
			nb.Status.CreatedBy, nb.Labels = "", map[string]string{v1alpha1.LabelScheduled: "true"}
		}, complete(2))}, keep: count(1), want: nil},
		"a running one is kept":       {all: []v1alpha1.NotesBackup{complete(1), backup("r2", "", 2)}, keep: count(1), want: nil},
		"one that is being deleted":   {all: []v1alpha1.NotesBackup{complete(1), of(func(nb *v1alpha1.NotesBackup) { nb.DeletionTimestamp = &metav1.Time{Time: noon} }, complete(2))}, keep: count(1), want: nil},
		"one without completion time": {all: []v1alpha1.NotesBackup{complete(1), of(func(nb *v1alpha1.NotesBackup) { nb.Status.CompletionTime = nil }, complete(2))}, keep: count(1), want: []string{"c2"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := names(Prunable(tc.all, tc.keep, noon)); !slices.Equal(got, tc.want) {
				t.Errorf("prunable %v, want %v", got, tc.want)
			}
		})
	}
}

func TestNewest(t *testing.T) {
	t.Parallel()
	if NewestComplete(nil) != nil || NewestEnded(nil) != nil {
		t.Error("a backup of none")
	}
	all := []v1alpha1.NotesBackup{
		backup("old", v1alpha1.ConditionComplete, 3), backup("newest-complete", v1alpha1.ConditionComplete, 2),
		backup("newest", v1alpha1.ConditionFailed, 1), backup("restored", v1alpha1.ConditionRestored, 0), backup("running", "", 0),
	}
	if got := NewestComplete(all); got.Name != "newest-complete" {
		t.Errorf("%s", got.Name)
	}
	if got := NewestEnded(all); got.Name != "newest" {
		t.Errorf("%s", got.Name)
	}
	for i := range all {
		if ended := all[i].Name != "running"; Ended(&all[i]) != ended {
			t.Errorf("%s has ended: %t", all[i].Name, !ended)
		}
	}
	if open := Indexes[openIndex]; len(open(&all[4])) != 1 || len(open(&all[0])) != 0 {
		t.Error("the index of open backups has one that has ended, or lacks one that has not")
	}
}
