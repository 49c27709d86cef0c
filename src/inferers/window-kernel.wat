;; What windows of scores go through, four at a time: `npm run window-kernel` makes window-kernel.ts of it.
;;
;; scores, weights, best and labels are of one layer of a window, row by row, and begin each at its own address; `at` is
;; where in that layer the first row begins. sums are of the whole image, rows `sumsRow` bytes apart. Everything but
;; labels, which are whole numbers of 32 bits, is float32; all addresses and steps are in bytes.
(module
  (import "host" "memory" (memory 1))

  ;; Adds `rows` rows of `length` scores (bytes, a multiple of 4) of class `class`. What the window is for these voxels:
  ;; `first`: nothing has been summed yet, so sums are not read. `last`: nothing will be added, so the sum is compared with
  ;; the best one so far, and not written. Both: the weights make no difference. Class 0 is the best one so far in any case.
  (func (export "add")
    (param $scores i32) (param $weights i32) (param $best i32) (param $labels i32) (param $at i32) (param $row i32)
    (param $sums i32) (param $sumsRow i32) (param $rows i32) (param $length i32)
    (param $class i32) (param $first i32) (param $last i32)
    (local $end i32) (local $fours i32) (local $to i32) (local $p i32)
    (local $value v128) (local $old v128) (local $takes v128) (local $zero v128) (local $classes v128)

    (local.set $classes (i32x4.splat (local.get $class)))
    ;; all bits where the comparison does not matter
    (local.set $zero (i32x4.splat (select (i32.const 0) (i32.const -1) (local.get $class))))

    (block $done (loop $nextRow
      (br_if $done (i32.eqz (local.get $rows)))
      (local.set $p (local.get $at))
      (local.set $to (local.get $sums))
      (local.set $end (i32.add (local.get $at) (local.get $length)))
      (local.set $fours (i32.add (local.get $at) (i32.and (local.get $length) (i32.const -16))))

      ;; four scores
      (block $tail (loop $next
        (br_if $tail (i32.ge_u (local.get $p) (local.get $fours)))
        (local.set $value (v128.load (i32.add (local.get $scores) (local.get $p))))
        (if (i32.eqz (i32.and (local.get $first) (local.get $last)))
          (then (local.set $value
            (f32x4.mul (local.get $value) (v128.load (i32.add (local.get $weights) (local.get $p)))))))
        (if (i32.eqz (local.get $first))
          (then (local.set $value (f32x4.add (v128.load (local.get $to)) (local.get $value)))))
        (if (local.get $last)
          (then
            (local.set $old (v128.load (i32.add (local.get $best) (local.get $p))))
            (local.set $takes (v128.or (f32x4.gt (local.get $value) (local.get $old)) (local.get $zero)))
            (v128.store (i32.add (local.get $best) (local.get $p))
              (v128.bitselect (local.get $value) (local.get $old) (local.get $takes)))
            (v128.store (i32.add (local.get $labels) (local.get $p))
              (v128.bitselect (local.get $classes) (v128.load (i32.add (local.get $labels) (local.get $p)))
                (local.get $takes))))
          (else (v128.store (local.get $to) (local.get $value))))
        (local.set $p (i32.add (local.get $p) (i32.const 16)))
        (local.set $to (i32.add (local.get $to) (i32.const 16)))
        (br $next)))

      ;; the last few of a row, one at a time
      (block $rowDone (loop $next
        (br_if $rowDone (i32.ge_u (local.get $p) (local.get $end)))
        (local.set $value (v128.load32_zero (i32.add (local.get $scores) (local.get $p))))
        (if (i32.eqz (i32.and (local.get $first) (local.get $last)))
          (then (local.set $value
            (f32x4.mul (local.get $value) (v128.load32_zero (i32.add (local.get $weights) (local.get $p)))))))
        (if (i32.eqz (local.get $first))
          (then (local.set $value (f32x4.add (v128.load32_zero (local.get $to)) (local.get $value)))))
        (if (local.get $last)
          (then
            (local.set $old (v128.load32_zero (i32.add (local.get $best) (local.get $p))))
            (local.set $takes (v128.or (f32x4.gt (local.get $value) (local.get $old)) (local.get $zero)))
            (v128.store32_lane 0 (i32.add (local.get $best) (local.get $p))
              (v128.bitselect (local.get $value) (local.get $old) (local.get $takes)))
            (v128.store32_lane 0 (i32.add (local.get $labels) (local.get $p))
              (v128.bitselect (local.get $classes) (v128.load32_zero (i32.add (local.get $labels) (local.get $p)))
                (local.get $takes))))
          (else (v128.store32_lane 0 (local.get $to) (local.get $value))))
        (local.set $p (i32.add (local.get $p) (i32.const 4)))
        (local.set $to (i32.add (local.get $to) (i32.const 4)))
        (br $next)))

      (local.set $at (i32.add (local.get $at) (local.get $row)))
      (local.set $sums (i32.add (local.get $sums) (local.get $sumsRow)))
      (local.set $rows (i32.sub (local.get $rows) (i32.const 1)))
      (br $nextRow))))

  ;; Puts `rows` rows of `length` bytes at `left` and as many at `right` between each other, value by value, into rows that
  ;; are `toRow` bytes apart.
  (func (export "weave")
    (param $left i32) (param $right i32) (param $to i32) (param $toRow i32) (param $rows i32) (param $length i32)
    (local $end i32) (local $fours i32) (local $into i32) (local $a v128) (local $b v128)
    (block $done (loop $nextRow
      (br_if $done (i32.eqz (local.get $rows)))
      (local.set $into (local.get $to))
      (local.set $end (i32.add (local.get $left) (local.get $length)))
      (local.set $fours (i32.add (local.get $left) (i32.and (local.get $length) (i32.const -16))))
      (block $tail (loop $next
        (br_if $tail (i32.ge_u (local.get $left) (local.get $fours)))
        (local.set $a (v128.load (local.get $left)))
        (local.set $b (v128.load (local.get $right)))
        (v128.store (local.get $into)
          (i8x16.shuffle 0 1 2 3 16 17 18 19 4 5 6 7 20 21 22 23 (local.get $a) (local.get $b)))
        (v128.store offset=16 (local.get $into)
          (i8x16.shuffle 8 9 10 11 24 25 26 27 12 13 14 15 28 29 30 31 (local.get $a) (local.get $b)))
        (local.set $left (i32.add (local.get $left) (i32.const 16)))
        (local.set $right (i32.add (local.get $right) (i32.const 16)))
        (local.set $into (i32.add (local.get $into) (i32.const 32)))
        (br $next)))
      (block $rowDone (loop $next
        (br_if $rowDone (i32.ge_u (local.get $left) (local.get $end)))
        (i32.store (local.get $into) (i32.load (local.get $left)))
        (i32.store offset=4 (local.get $into) (i32.load (local.get $right)))
        (local.set $left (i32.add (local.get $left) (i32.const 4)))
        (local.set $right (i32.add (local.get $right) (i32.const 4)))
        (local.set $into (i32.add (local.get $into) (i32.const 8)))
        (br $next)))
      (local.set $to (i32.add (local.get $to) (local.get $toRow)))
      (local.set $rows (i32.sub (local.get $rows) (i32.const 1)))
      (br $nextRow)))))
