package envelope

import (
	"reflect"
	"unsafe"
)

// memoryOf is the memory of one of the standard library's ciphers, which has its key schedule in it and no way of its own
// to wipe that. It is nil for a cipher whose value is not in one piece: TestKeySchedulesAreWiped fails with a version of
// Go that has such.
func memoryOf(cipher any) []byte {
	v := reflect.ValueOf(cipher)
	for v.Kind() == reflect.Struct && v.NumField() == 1 {
		v = v.Field(0) // a wrapper with methods of its own
	}
	if v.Kind() != reflect.Pointer || v.IsNil() || !inOnePiece(v.Type().Elem()) {
		return nil
	}
	return unsafe.Slice((*byte)(v.UnsafePointer()), v.Type().Elem().Size()) //nolint:gosec // nothing else reaches it
}

// inOnePiece says whether a value of the type points to nothing, so that its memory is all of it, and may be overwritten
// without the garbage collector's knowledge.
func inOnePiece(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Array:
		return inOnePiece(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if !inOnePiece(t.Field(i).Type) {
				return false
			}
		}
		return true
	default:
		return reflect.Bool <= t.Kind() && t.Kind() <= reflect.Complex128
	}
}
