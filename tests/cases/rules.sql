-- case: gcn: products run on papers, sums are sparse products
WITH h1 AS (SELECT c.dst AS id, relu(sum(linear(p.x, 16) * c.w)) AS z
            FROM cites c JOIN paper p ON p.id = c.src GROUP BY c.dst)
SELECT c.dst AS id, sum(linear(h.z, 7) * c.w) AS logits
FROM cites c JOIN h1 h ON h.id = c.src GROUP BY c.dst;
-- | fired: fold_alias_into_map ×2, push_term_below_join ×2, merge_maps ×2
-- | π Map (id, logits)
-- |   γ Aggregate by c.dst
-- |       aggregate 0 = sum(argument 0)
-- |     π Map (c.dst)
-- |         argument 0 = (term 0 * c.w)  [7]
-- |       ⋈ Join h.id = c.src
-- |         ρ Alias c  [shared 1]
-- |           Scan cites (src, dst, w)
-- |         π Map (h.id)
-- |             term 0 = linear(relu(aggregate 0), 7)  [7]
-- |           γ Aggregate by c.dst
-- |               aggregate 0 = sum(argument 0)
-- |             π Map (c.dst)
-- |                 argument 0 = (term 0 * c.w)  [16]
-- |               ⋈ Join p.id = c.src
-- |                 ↑ shared 1
-- |                 π Map (p.id)
-- |                     term 0 = linear(x, 16)  [16]
-- |                   Scan paper (id, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, id
-- |     #1  Rows of (cites c ⋈ #0 [p.id = c.src]) → #0, c.w, c.dst, sorted by c.dst
-- |     #2  Groups of #1 by c.dst
-- |     #3  Rows of (cites c ⋈ #2 [h.id = c.src]) → #2, c.w, c.dst, sorted by c.dst
-- |     #4  Groups of #3 by c.dst
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #0  [16]  MatMul linear(%0, 16)  m.h1.linear_0.weight
-- |     %2   #1  [1]  Lift c.w
-- |     %3   #2  [16]  SparseProduct Σ %2 · %1 by #0
-- |     %4   #2  [16]  Apply relu(%3)
-- |     %5   #2  [7]  MatMul linear(%4, 7)  m.linear_0.weight
-- |     %6   #3  [1]  Lift c.w
-- |     %7   #4  [7]  SparseProduct Σ %6 · %5 by #2
-- |   result  #4: id, logits = %7

-- case: push_term_below_join stays above when the join has fewer rows
SELECT p.id, linear(p.x, 16) AS z FROM paper p JOIN venue v ON p.id = v.id;
-- | fired: fold_alias_into_map ×1, drop_identity_map ×1
-- | π Map (id)
-- |     z = linear(p.x, 16)  [16]
-- |   ⋈ Join p.id = v.id
-- |     π Map (p.id)
-- |         p.x = x  [32]
-- |       Scan paper (id, x)
-- |     ρ Alias v
-- |       Scan venue (id)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, id
-- |     #1  Rows of (#0 ⋈ venue v [p.id = v.id]) → #0, p.id
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #1  [32]  Gather %0 by #0
-- |     %2   #1  [16]  MatMul linear(%1, 16)  m.linear_0.weight
-- |   result  #1: id, z = %2

-- case: push_term_below_join keeps dropout on the join's rows
SELECT c.dst, sum(dropout(linear(p.x, 16), 0.5)) AS z
FROM cites c JOIN paper p ON p.id = c.src GROUP BY c.dst;
-- | fired: fold_alias_into_map ×1, push_term_below_join ×1, merge_maps ×1
-- | π Map (dst, z)
-- |   γ Aggregate by c.dst
-- |       aggregate 0 = sum(argument 0)
-- |     π Map (c.dst)
-- |         argument 0 = dropout(term 0, 0.5)  [16]
-- |       ⋈ Join p.id = c.src
-- |         ρ Alias c
-- |           Scan cites (src, dst)
-- |         π Map (p.id)
-- |             term 0 = linear(x, 16)  [16]
-- |           Scan paper (id, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, id
-- |     #1  Rows of (cites c ⋈ #0 [p.id = c.src]) → #0, c.dst, sorted by c.dst
-- |     #2  Groups of #1 by c.dst
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #0  [16]  MatMul linear(%0, 16)  m.linear_0.weight
-- |     %2   #1  [16]  Gather %1 by #0
-- |     %3   #1  [16]  Dropout dropout(%2, 0.5)
-- |     %4   #2  [16]  SegmentReduce sum %3
-- |   result  #2: dst, z = %4

-- case: push_term_below_join does not touch coalesce on the side a left join fills
SELECT c.dst, sum(linear(coalesce(p.x, 1), 16)) AS z
FROM cites c LEFT JOIN paper p ON p.id = c.src AND p.year > 2000 GROUP BY c.dst;
-- | fired: fold_alias_into_map ×1, pull_linear_above_sum ×1, merge_maps ×1
-- | π Map (dst)
-- |     z = (linear(aggregate 0, 16, bias => false) + (count 0 * param(16)))  [16]
-- |   γ Aggregate by c.dst
-- |       aggregate 0 = sum(argument 1)
-- |       count 0 = count(argument 1)
-- |     π Map (c.dst)
-- |         argument 1 = coalesce(p.x, 1)  [32]
-- |       ⟕ Join p.id = c.src AND p.year > 2000
-- |         ρ Alias c
-- |           Scan cites (src, dst)
-- |         π Map (p.id, p.year)
-- |             p.x = x  [32]
-- |           Scan paper (id, year, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, id, year
-- |     #1  Rows of (cites c ⟕ #0 [p.id = c.src AND p.year > 2000]) → #0, c.dst, sorted by c.dst
-- |     #2  Groups of #1 by c.dst
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #1  [32]  Gather %0 by #0
-- |     %2   #1  [1]  Constant 1
-- |     %3   #1  [32]  Coalesce coalesce(%1, %2)
-- |     %4   #2  [32]  SegmentReduce sum %3
-- |     %5   #2  [1]  SegmentReduce count %3
-- |     %6   #2  [16]  MatMul linear(%4, 16, bias => false)  m.linear_0.weight
-- |     %7   #2  [16]  Learned param(16)
-- |     %8   #2  [16]  Apply (%5 * %7)
-- |     %9   #2  [16]  Apply (%6 + %8)
-- |   result  #2: dst, z = %9

-- case: push_term_below_join moves a strict term below a left join
SELECT c.dst, sum(relu(linear(p.x, 16))) AS z
FROM cites c LEFT JOIN paper p ON p.id = c.src AND p.year > 2000 GROUP BY c.dst;
-- | fired: fold_alias_into_map ×1, push_term_below_join ×1, merge_maps ×1
-- | π Map (dst, z)
-- |   γ Aggregate by c.dst
-- |       aggregate 0 = sum(argument 0)
-- |     π Map (c.dst, argument 0)
-- |       ⟕ Join p.id = c.src AND p.year > 2000
-- |         ρ Alias c
-- |           Scan cites (src, dst)
-- |         π Map (p.id, p.year)
-- |             term 0 = relu(linear(x, 16))  [16]
-- |           Scan paper (id, year, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, id, year
-- |     #1  Rows of (cites c ⟕ #0 [p.id = c.src AND p.year > 2000]) → c.dst, #0, sorted by c.dst
-- |     #2  Groups of #1 by c.dst
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #0  [16]  MatMul linear(%0, 16)  m.linear_0.weight
-- |     %2   #0  [16]  Apply relu(%1)
-- |     %3   #2  [16]  SparseProduct Σ %2 by #0
-- |   result  #2: dst, z = %3

-- case: push_term_below_join through two joins
SELECT c.dst, sum(relu(linear(v.x, 16))) AS z
FROM cites c JOIN paper p ON p.id = c.src JOIN venue v ON v.id = p.venue GROUP BY c.dst;
-- | fired: drop_identity_map ×1, fold_alias_into_map ×1, push_term_below_join ×1, merge_maps ×1
-- | π Map (dst, z)
-- |   γ Aggregate by c.dst
-- |       aggregate 0 = sum(argument 0)
-- |     π Map (c.dst, argument 0)
-- |       ⋈ Join v.id = p.venue
-- |         ⋈ Join p.id = c.src
-- |           ρ Alias c
-- |             Scan cites (src, dst)
-- |           ρ Alias p
-- |             Scan paper (id, venue)
-- |         π Map (v.id)
-- |             term 0 = relu(linear(x, 16))  [16]
-- |           Scan venue (id, x)
-- |   rows, numbered once
-- |     #0  Rows of venue → x, id
-- |     #1  Rows of ((cites c ⋈ paper p [p.id = c.src]) ⋈ #0 [v.id = p.venue]) → c.dst, #0, sorted by c.dst
-- |     #2  Groups of #1 by c.dst
-- |   numbers, every epoch
-- |     %0   #0  [8]  Lift x
-- |     %1   #0  [16]  MatMul linear(%0, 16)  m.linear_0.weight
-- |     %2   #0  [16]  Apply relu(%1)
-- |     %3   #2  [16]  SparseProduct Σ %2 by #0
-- |   result  #2: dst, z = %3

-- case: pull_linear_above_sum: one product for each venue
SELECT p.venue, sum(linear(p.x, 16)) AS z, avg(linear(p.x, 4)) AS y FROM paper p GROUP BY p.venue;
-- | fired: fold_alias_into_map ×1, merge_maps ×3, pull_linear_above_sum ×2
-- | π Map (venue)
-- |     z = (linear(aggregate 0, 16, bias => false) + (count 0 * param(16)))  [16]
-- |     y = linear(aggregate 1, 4)  [4]
-- |   γ Aggregate by p.venue
-- |       aggregate 0 = sum(argument 2)
-- |       count 0 = count(argument 2)
-- |       aggregate 1 = avg(argument 3)
-- |     π Map (p.venue)
-- |         argument 2 = x  [32]
-- |         argument 3 = x  [32]
-- |       Scan paper (venue, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, venue, sorted by venue
-- |     #1  Groups of #0 by venue
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #1  [32]  SegmentReduce sum %0
-- |     %2   #1  [1]  SegmentReduce count %0
-- |     %3   #1  [32]  SegmentReduce avg %0
-- |     %4   #1  [16]  MatMul linear(%1, 16, bias => false)  m.linear_0.weight
-- |     %5   #1  [16]  Learned param(16)
-- |     %6   #1  [16]  Apply (%2 * %5)
-- |     %7   #1  [16]  Apply (%4 + %6)
-- |     %8   #1  [4]  MatMul linear(%3, 4)  m.linear_1.weight
-- |   result  #1: venue, z = %7, y = %8

-- case: pull_linear_above_sum does not fire for max
SELECT p.venue, max(linear(p.x, 16)) AS z FROM paper p GROUP BY p.venue;
-- | fired: fold_alias_into_map ×1, merge_maps ×1
-- | π Map (venue, z)
-- |   γ Aggregate by p.venue
-- |       aggregate 0 = max(argument 0)
-- |     π Map (p.venue)
-- |         argument 0 = linear(x, 16)  [16]
-- |       Scan paper (venue, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, venue, sorted by venue
-- |     #1  Groups of #0 by venue
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #0  [16]  MatMul linear(%0, 16)  m.linear_0.weight
-- |     %2   #1  [16]  SegmentReduce max %1
-- |   result  #1: venue, z = %2

-- case: pull_linear_above_sum does not fire for a scaled sum with a bias
SELECT p.venue, sum(linear(p.x, 16) * p.year) AS z FROM paper p GROUP BY p.venue;
-- | fired: fold_alias_into_map ×1, merge_maps ×1
-- | π Map (venue, z)
-- |   γ Aggregate by p.venue
-- |       aggregate 0 = sum(argument 0)
-- |     π Map (p.venue)
-- |         argument 0 = (linear(x, 16) * year)  [16]
-- |       Scan paper (year, venue, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, year, venue, sorted by venue
-- |     #1  Groups of #0 by venue
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #0  [16]  MatMul linear(%0, 16)  m.linear_0.weight
-- |     %2   #0  [1]  Lift year
-- |     %3   #0  [16]  Apply (%1 * %2)
-- |     %4   #1  [16]  SegmentReduce sum %3
-- |   result  #1: venue, z = %4

-- case: pull_linear_above_sum fires for a scaled sum without a bias
SELECT p.venue, sum(linear(p.x, 16, bias => false) * p.year) AS z FROM paper p GROUP BY p.venue;
-- | fired: fold_alias_into_map ×1, merge_maps ×2, pull_linear_above_sum ×1
-- | π Map (venue)
-- |     z = linear(aggregate 0, 16, bias => false)  [16]
-- |   γ Aggregate by p.venue
-- |       aggregate 0 = sum(argument 1)
-- |     π Map (p.venue)
-- |         argument 1 = (x * year)  [32]
-- |       Scan paper (year, venue, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, year, venue, sorted by venue
-- |     #1  Groups of #0 by venue
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #0  [1]  Lift year
-- |     %2   #0  [32]  Apply (%0 * %1)
-- |     %3   #1  [32]  SegmentReduce sum %2
-- |     %4   #1  [16]  MatMul linear(%3, 16, bias => false)  m.linear_0.weight
-- |   result  #1: venue, z = %4

-- case: selections move below maps, groups and unions
WITH a AS (SELECT p.venue, avg(relu(linear(p.x, 8))) AS z FROM paper p GROUP BY p.venue
           UNION ALL SELECT v.id, linear(v.x, 8) AS z FROM venue v)
SELECT venue, relu(z) AS z FROM a WHERE venue > 2;
-- | fired: fold_alias_into_map ×2, merge_maps ×4, turn_alias_into_map ×1, push_selection_below_map ×4, push_selection_below_union ×1, push_selection_below_aggregate ×1
-- | π Map (venue)
-- |     z = relu(z)  [8]
-- |   ⊎ Union all
-- |     π Map (venue, z)
-- |       γ Aggregate by p.venue
-- |           aggregate 0 = avg(argument 0)
-- |         π Map (p.venue)
-- |             argument 0 = relu(linear(x, 8))  [8]
-- |           σ Select venue > 2
-- |             Scan paper (venue, x)
-- |     π Map (venue)
-- |         z = linear(x, 8)  [8]
-- |       σ Select id > 2
-- |         Scan venue (id, x)
-- |   rows, numbered once
-- |     #0  Rows of σ[venue > 2](paper) → x, venue, sorted by venue
-- |     #1  Groups of #0 by venue
-- |     #2  Rows of σ[id > 2](venue) → x, id
-- |     #3  Stack of #1, #2
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #0  [8]  MatMul linear(%0, 8)  m.a.part_0.linear_0.weight
-- |     %2   #0  [8]  Apply relu(%1)
-- |     %3   #1  [8]  SegmentReduce avg %2
-- |     %4   #2  [8]  Lift x
-- |     %5   #2  [8]  MatMul linear(%4, 8)  m.a.part_1.linear_0.weight
-- |     %6   #3  [8]  Stack %3, %5
-- |     %7   #3  [8]  Apply relu(%6)
-- |   result  #3: venue, z = %7

-- case: a selection stays above a window it would change
WITH a AS (SELECT c.src, c.dst, c.w, softmax(linear(c.w, 1)) OVER (PARTITION BY c.dst) AS a FROM cites c)
SELECT dst, sum(a) AS s FROM a WHERE src > 10 GROUP BY dst;
-- | fired: fold_alias_into_map ×1, push_selection_below_map ×1, merge_maps ×1
-- | π Map (dst, s)
-- |   γ Aggregate by a.dst
-- |       aggregate 0 = sum(argument 0)
-- |     π Map (a.dst, argument 0)
-- |       σ Select c.src > 10
-- |         ω Window
-- |             window 0 = softmax(argument 0) OVER (PARTITION BY c.dst)
-- |           π Map (c.src, c.dst)
-- |               argument 0 = linear(c.w, 1)  [1]
-- |             ρ Alias c
-- |               Scan cites (src, dst, w)
-- |   rows, numbered once
-- |     #0  Rows of cites c → c.w, c.dst, c.src, sorted by c.dst
-- |     #1  Rows of σ[c.src > 10](#0) → a.dst, #0, sorted by a.dst
-- |     #2  Groups of #1 by a.dst
-- |   numbers, every epoch
-- |     %0   #0  [1]  Lift c.w
-- |     %1   #0  [1]  MatMul linear(%0, 1)  m.a.linear_0.weight
-- |     %2   #0  [1]  Partition softmax %1 over c.dst
-- |     %3   #2  [1]  SparseProduct Σ %2 by #0
-- |   result  #2: dst, s = %3

-- case: a selection on the partition moves below the window
WITH a AS (SELECT c.src, c.dst, c.w, softmax(linear(c.w, 1)) OVER (PARTITION BY c.dst) AS a FROM cites c)
SELECT dst, sum(a) AS s FROM a WHERE dst > 10 GROUP BY dst;
-- | fired: fold_alias_into_map ×1, push_selection_below_map ×2, merge_maps ×1, push_selection_below_window ×1
-- | π Map (dst, s)
-- |   γ Aggregate by a.dst
-- |       aggregate 0 = sum(argument 0)
-- |     π Map (a.dst, argument 0)
-- |       ω Window
-- |           window 0 = softmax(argument 0) OVER (PARTITION BY c.dst)
-- |         π Map (c.dst)
-- |             argument 0 = linear(c.w, 1)  [1]
-- |           σ Select c.dst > 10
-- |             ρ Alias c
-- |               Scan cites (dst, w)
-- |   rows, numbered once
-- |     #0  Rows of σ[c.dst > 10](cites c) → c.w, c.dst, sorted by c.dst
-- |     #1  Groups of #0 by c.dst
-- |   numbers, every epoch
-- |     %0   #0  [1]  Lift c.w
-- |     %1   #0  [1]  MatMul linear(%0, 1)  m.a.linear_0.weight
-- |     %2   #0  [1]  Partition softmax %1 over c.dst
-- |     %3   #1  [1]  SegmentReduce sum %2
-- |   result  #1: dst, s = %3

-- case: equal sub-queries are shared
SELECT a.id, dot(a.z, b.z) AS s
FROM (SELECT id, linear(x, 4, share => 'w') AS z FROM paper) a
JOIN (SELECT id, linear(x, 4, share => 'w') AS z FROM paper) b ON a.id = b.id + 1;
-- | fired: fold_alias_into_map ×3, merge_maps ×1
-- | π Map (id)
-- |     s = dot(a.z, b.z)  [1]
-- |   ⋈ Join a.id = b.id + 1
-- |     π Map (a.id)
-- |         a.z = linear(x, 4)  [4]
-- |       Scan paper (id, x)
-- |     π Map (b.id)
-- |         b.z = linear(x, 4)  [4]
-- |       Scan paper (id, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, id
-- |     #1  Rows of (#0 ⋈ #0 [a.id = b.id + 1]) → #0, #0'1, a.id
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #0  [4]  MatMul linear(%0, 4)  m.w.weight
-- |     %2   #1  [4]  Gather %1 by #0
-- |     %3   #1  [4]  Gather %1 by #0'1
-- |     %4   #1  [1]  Dot dot(%2, %3)
-- |   result  #1: id, s = %4

-- case: attention
WITH score AS (SELECT c.src, c.dst, linear(s.x, 16) AS v,
                      dot(linear(s.x, 16), linear(d.x, 16)) / sqrt(16) AS s
               FROM cites c JOIN paper s ON s.id = c.src JOIN paper d ON d.id = c.dst),
     att AS (SELECT *, softmax(s) OVER (PARTITION BY dst) AS a FROM score)
SELECT dst, sum(a * v) AS z FROM att GROUP BY dst;
-- | fired: fold_alias_into_map ×4, merge_maps ×4, push_term_below_join ×3, drop_identity_map ×1
-- | π Map (dst, z)
-- |   γ Aggregate by att.dst
-- |       aggregate 0 = sum(argument 0)
-- |     π Map (att.dst)
-- |         argument 0 = (window 0 * score.v)  [16]
-- |       ω Window
-- |           window 0 = softmax(score.s) OVER (PARTITION BY score.dst)
-- |         π Map (score.dst, score.v)
-- |             score.s = (dot(term 1, term 2) / 4)  [1]
-- |           ⋈ Join d.id = c.dst
-- |             ⋈ Join s.id = c.src
-- |               ρ Alias c
-- |                 Scan cites (src, dst)
-- |               π Map (s.id)
-- |                   term 0 = linear(x, 16)  [16]
-- |                   term 1 = linear(x, 16)  [16]
-- |                 Scan paper (id, x)
-- |             π Map (d.id)
-- |                 term 2 = linear(x, 16)  [16]
-- |               Scan paper (id, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, id
-- |     #1  Rows of ((cites c ⋈ #0 [s.id = c.src]) ⋈ #0 [d.id = c.dst]) → #0, #0'1, c.dst, sorted by c.dst
-- |     #2  Groups of #1 by c.dst
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #0  [16]  MatMul linear(%0, 16)  m.score.linear_0.weight
-- |     %2   #0  [16]  MatMul linear(%0, 16)  m.score.linear_1.weight
-- |     %3   #0  [16]  MatMul linear(%0, 16)  m.score.linear_2.weight
-- |     %4   #1  [16]  Gather %2 by #0
-- |     %5   #1  [16]  Gather %3 by #0'1
-- |     %6   #1  [1]  Dot dot(%4, %5)
-- |     %7   #1  [1]  Constant 4
-- |     %8   #1  [1]  Apply (%6 / %7)
-- |     %9   #1  [1]  Partition softmax %8 over c.dst
-- |     %10  #2  [16]  SparseProduct Σ %9 · %1 by #0
-- |   result  #2: dst, z = %10

-- case: a selection stays above batch normalisation
SELECT q.id, relu(q.z) AS z FROM (SELECT p.id, p.venue, batch_norm(linear(p.x, 2)) AS z FROM paper p) q
WHERE q.venue = 1;
-- | fired: fold_alias_into_map ×2, merge_maps ×1
-- | π Map (id)
-- |     z = relu(q.z)  [2]
-- |   σ Select q.venue = 1
-- |     π Map (q.id, q.venue)
-- |         q.z = batch_norm(linear(x, 2))  [2]
-- |       Scan paper (id, venue, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, id, venue
-- |     #1  Rows of σ[q.venue = 1](#0) → #0, q.id
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #0  [2]  MatMul linear(%0, 2)  m.q.linear_0.weight
-- |     %2   #0  [2]  Norm batch_norm(%1)
-- |     %3   #1  [2]  Gather %2 by #0
-- |     %4   #1  [2]  Apply relu(%3)
-- |   result  #1: id, z = %4

-- case: aggregate_before_join: a path of three hops never is a join of three hops
SELECT a.src AS id, sum(x.x * y.x * z.x) AS paths
FROM cites a JOIN cites b ON b.src = a.dst JOIN cites c ON c.src = b.dst
JOIN paper x ON x.id = a.dst JOIN paper y ON y.id = b.dst JOIN paper z ON z.id = c.dst GROUP BY a.src;
-- | fired: fold_alias_into_map ×3, aggregate_before_join ×1
-- | π Map (id, paths)
-- |   γ Aggregate by a.src
-- |       aggregate 0 = sum(argument 0)
-- |     π Map (a.src)
-- |         argument 0 = (x.x * sum 1)  [32]
-- |       ⋈ Join b.src = a.dst
-- |         ⋈ Join x.id = a.dst
-- |           ρ Alias a
-- |             Scan cites (src, dst)
-- |           π Map (x.id)
-- |               x.x = x  [32]
-- |             Scan paper (id, x)
-- |         γ Aggregate by b.src
-- |             sum 1 = sum(product 1)
-- |           π Map (b.src)
-- |               product 1 = (y.x * sum 0)  [32]
-- |             ⋈ Join c.src = b.dst
-- |               ⋈ Join y.id = b.dst
-- |                 ρ Alias b
-- |                   Scan cites (src, dst)
-- |                 π Map (y.id)
-- |                     y.x = x  [32]
-- |                   Scan paper (id, x)
-- |               γ Aggregate by c.src
-- |                   sum 0 = sum(product 0)
-- |                 π Map (c.src, product 0)
-- |                   ⋈ Join z.id = c.dst
-- |                     ρ Alias c
-- |                       Scan cites (src, dst)
-- |                     π Map (z.id)
-- |                         z.x = x  [32]
-- |                       Scan paper (id, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, id
-- |     #1  Rows of (cites c ⋈ #0 [z.id = c.dst]) → c.src, #0, sorted by c.src
-- |     #2  Groups of #1 by c.src
-- |     #3  Rows of ((cites b ⋈ #0 [y.id = b.dst]) ⋈ #2 [c.src = b.dst]) → #0, #2, b.src, sorted by b.src
-- |     #4  Groups of #3 by b.src
-- |     #5  Rows of ((cites a ⋈ #0 [x.id = a.dst]) ⋈ #4 [b.src = a.dst]) → #0, #4, a.src, sorted by a.src
-- |     #6  Groups of #5 by a.src
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #2  [32]  SparseProduct Σ %0 by #0
-- |     %2   #4  [32]  ProductSum Σ %0 by #0 · %1 by #2
-- |     %3   #6  [32]  ProductSum Σ %0 by #0 · %2 by #4
-- |   result  #6: id, paths = %3

-- case: aggregate_before_join: a relation that contributes no factor is counted
SELECT a.src AS id, sum(linear(x.x, 4)) AS paths
FROM cites a JOIN cites b ON b.src = a.dst JOIN paper x ON x.id = a.dst GROUP BY a.src;
-- | fired: fold_alias_into_map ×1, aggregate_before_join ×1, push_term_below_join ×1, merge_maps ×1
-- | π Map (id, paths)
-- |   γ Aggregate by a.src
-- |       aggregate 0 = sum(argument 0)
-- |     π Map (a.src)
-- |         argument 0 = (rows 0 * term 0)  [4]
-- |       ⋈ Join x.id = a.dst
-- |         ⋈ Join b.src = a.dst
-- |           ρ Alias a
-- |             Scan cites (src, dst)
-- |           γ Aggregate by b.src
-- |               rows 0 = count(*)
-- |             π Map (b.src)
-- |               ρ Alias b
-- |                 Scan cites (src, dst)
-- |         π Map (x.id)
-- |             term 0 = linear(x, 4)  [4]
-- |           Scan paper (id, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, id
-- |     #1  Rows of ((cites a ⋈ γ[b.src](cites b) [b.src = a.dst]) ⋈ #0 [x.id = a.dst]) → rows 0, #0, a.src, sorted by a.src
-- |     #2  Groups of #1 by a.src
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #0  [4]  MatMul linear(%0, 4)  m.linear_0.weight
-- |     %2   #1  [1]  Lift rows 0
-- |     %3   #2  [4]  SparseProduct Σ %2 · %1 by #0
-- |   result  #2: id, paths = %3

-- case: aggregate_before_join leaves the greatest of products alone
SELECT a.src AS id, max(x.x * y.x) AS paths
FROM cites a JOIN cites b ON b.src = a.dst JOIN paper x ON x.id = a.dst JOIN paper y ON y.id = b.dst GROUP BY a.src;
-- | fired: fold_alias_into_map ×2
-- | π Map (id, paths)
-- |   γ Aggregate by a.src
-- |       aggregate 0 = max(argument 0)
-- |     π Map (a.src)
-- |         argument 0 = (x.x * y.x)  [32]
-- |       ⋈ Join y.id = b.dst
-- |         ⋈ Join x.id = a.dst
-- |           ⋈ Join b.src = a.dst
-- |             ρ Alias a
-- |               Scan cites (src, dst)
-- |             ρ Alias b
-- |               Scan cites (src, dst)
-- |           π Map (x.id)
-- |               x.x = x  [32]
-- |             Scan paper (id, x)
-- |         π Map (y.id)
-- |             y.x = x  [32]
-- |           Scan paper (id, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, id
-- |     #1  Rows of (((cites a ⋈ cites b [b.src = a.dst]) ⋈ #0 [x.id = a.dst]) ⋈ #0 [y.id = b.dst]) → #0, #0'1, a.src, sorted by a.src
-- |     #2  Groups of #1 by a.src
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #1  [32]  Gather %0 by #0
-- |     %2   #1  [32]  Gather %0 by #0'1
-- |     %3   #1  [32]  Apply (%1 * %2)
-- |     %4   #2  [32]  SegmentReduce max %3
-- |   result  #2: id, paths = %4

-- case: aggregate_before_join leaves a cycle alone
SELECT a.src AS id, sum(x.x * y.x) AS triangles
FROM cites a JOIN cites b ON b.src = a.dst JOIN cites c ON c.src = b.dst AND c.dst = a.src
JOIN paper x ON x.id = a.dst JOIN paper y ON y.id = b.dst GROUP BY a.src;
-- | fired: fold_alias_into_map ×2
-- | π Map (id, triangles)
-- |   γ Aggregate by a.src
-- |       aggregate 0 = sum(argument 0)
-- |     π Map (a.src)
-- |         argument 0 = (x.x * y.x)  [32]
-- |       ⋈ Join y.id = b.dst
-- |         ⋈ Join x.id = a.dst
-- |           ⋈ Join c.src = b.dst AND c.dst = a.src
-- |             ⋈ Join b.src = a.dst
-- |               ρ Alias a
-- |                 Scan cites (src, dst)
-- |               ρ Alias b
-- |                 Scan cites (src, dst)
-- |             ρ Alias c
-- |               Scan cites (src, dst)
-- |           π Map (x.id)
-- |               x.x = x  [32]
-- |             Scan paper (id, x)
-- |         π Map (y.id)
-- |             y.x = x  [32]
-- |           Scan paper (id, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, id
-- |     #1  Rows of ((((cites a ⋈ cites b [b.src = a.dst]) ⋈ cites c [c.src = b.dst AND c.dst = a.src]) ⋈ #0 [x.id = a.dst]) ⋈ #0 [y.id = b.dst]) → #0, #0'1, a.src, sorted by a.src
-- |     #2  Groups of #1 by a.src
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #2  [32]  ProductSum Σ %0 by #0 · %0 by #0'1
-- |   result  #2: id, triangles = %1

-- case: split_linear_of_concat: a pair's score from two products, each on papers
SELECT c.src, c.dst, linear(relu(linear(concat(p.x, q.x), 16)), 1) AS score
FROM cites c JOIN paper p ON p.id = c.src JOIN paper q ON q.id = c.dst;
-- | fired: fold_alias_into_map ×2, split_linear_of_concat ×1, push_term_below_join ×3, drop_identity_map ×1, merge_maps ×2
-- | π Map (src, dst)
-- |     score = linear(relu((term 0 + term 1)), 1)  [1]
-- |   ⋈ Join q.id = c.dst
-- |     ⋈ Join p.id = c.src
-- |       ρ Alias c
-- |         Scan cites (src, dst)
-- |       π Map (p.id)
-- |           term 0 = linear(x, 16, bias => false, rows 0 to 32)  [16]
-- |         Scan paper (id, x)
-- |     π Map (q.id)
-- |         term 1 = linear(x, 16, rows 32 to 64)  [16]
-- |       Scan paper (id, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, id
-- |     #1  Rows of ((cites c ⋈ #0 [p.id = c.src]) ⋈ #0 [q.id = c.dst]) → #0, #0'1, c.src, c.dst
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #0  [16]  MatMul linear(%0, 16, bias => false, rows 0 to 32)  m.linear_0.weight
-- |     %2   #0  [16]  MatMul linear(%0, 16, rows 32 to 64)  m.linear_0.weight
-- |     %3   #1  [16]  Gather %1 by #0
-- |     %4   #1  [16]  Gather %2 by #0'1
-- |     %5   #1  [16]  Apply (%3 + %4)
-- |     %6   #1  [16]  Apply relu(%5)
-- |     %7   #1  [1]  MatMul linear(%6, 1)  m.linear_1.weight
-- |   result  #1: src, dst, score = %7

-- case: split_linear_of_concat stays where the parts come from the join's own rows
SELECT c.src, linear(concat(c.w, numeric(c.w)), 4) AS z FROM cites c JOIN paper p ON p.id = c.src;
-- | fired: drop_identity_map ×1
-- | π Map (src)
-- |     z = linear(concat(c.w, numeric(c.w)), 4)  [4]
-- |   ⋈ Join p.id = c.src
-- |     ρ Alias c
-- |       Scan cites (src, w)
-- |     ρ Alias p
-- |       Scan paper (id)
-- |   rows, numbered once
-- |     #0  Rows of (cites c ⋈ paper p [p.id = c.src]) → c.w, c.src
-- |   numbers, every epoch
-- |     %0   #0  [1]  Lift c.w
-- |     %1   #0  [2]  Encode numeric(c.w)
-- |     %2   #0  [3]  Concat concat(%0, %1)
-- |     %3   #0  [4]  MatMul linear(%2, 4)  m.linear_0.weight
-- |   result  #0: src, z = %3

-- case: turn_division_into_product: a sum divided row by row is a sparse product too
SELECT c.dst AS id, sum(linear(p.x, 16) / c.w) AS z FROM cites c JOIN paper p ON p.id = c.src GROUP BY c.dst;
-- | fired: fold_alias_into_map ×1, turn_division_into_product ×1, push_term_below_join ×1, merge_maps ×1
-- | π Map (id, z)
-- |   γ Aggregate by c.dst
-- |       aggregate 0 = sum(argument 0)
-- |     π Map (c.dst)
-- |         argument 0 = (term 0 * (1 / c.w))  [16]
-- |       ⋈ Join p.id = c.src
-- |         ρ Alias c
-- |           Scan cites (src, dst, w)
-- |         π Map (p.id)
-- |             term 0 = linear(x, 16)  [16]
-- |           Scan paper (id, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, id
-- |     #1  Rows of (cites c ⋈ #0 [p.id = c.src]) → #0, c.w, c.dst, sorted by c.dst
-- |     #2  Groups of #1 by c.dst
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #0  [16]  MatMul linear(%0, 16)  m.linear_0.weight
-- |     %2   #1  [1]  Constant 1
-- |     %3   #1  [1]  Lift c.w
-- |     %4   #1  [1]  Apply (%2 / %3)
-- |     %5   #2  [16]  SparseProduct Σ %4 · %1 by #0
-- |   result  #2: id, z = %5

-- case: push_selection_below_join: each condition where its columns are
SELECT c.dst, sum(linear(p.x, 4)) AS z FROM cites c JOIN paper p ON p.id = c.src
WHERE p.year > 2000 AND c.kind = 'cites' AND c.w * p.year > 1000 GROUP BY c.dst;
-- | fired: fold_alias_into_map ×1, push_selection_below_join ×1, push_selection_below_map ×1, pull_linear_above_sum ×1, merge_maps ×1
-- | π Map (dst)
-- |     z = (linear(aggregate 0, 4, bias => false) + (count 0 * param(4)))  [4]
-- |   γ Aggregate by c.dst
-- |       aggregate 0 = sum(argument 1)
-- |       count 0 = count(argument 1)
-- |     π Map (c.dst, argument 1)
-- |       σ Select c.w * p.year > 1000
-- |         ⋈ Join p.id = c.src
-- |           σ Select c.kind = 'cites'
-- |             ρ Alias c
-- |               Scan cites (src, dst, kind, w)
-- |           π Map (p.id, p.year)
-- |               p.x = x  [32]
-- |             σ Select year > 2000
-- |               Scan paper (id, year, x)
-- |   rows, numbered once
-- |     #0  Rows of σ[year > 2000](paper) → x, id, year
-- |     #1  Rows of σ[c.w * p.year > 1000]((σ[c.kind = 'cites'](cites c) ⋈ #0 [p.id = c.src])) → c.dst, #0, sorted by c.dst
-- |     #2  Groups of #1 by c.dst
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #1  [32]  Gather %0 by #0
-- |     %2   #2  [32]  SegmentReduce sum %1
-- |     %3   #2  [1]  SegmentReduce count %1
-- |     %4   #2  [4]  MatMul linear(%2, 4, bias => false)  m.linear_0.weight
-- |     %5   #2  [4]  Learned param(4)
-- |     %6   #2  [4]  Apply (%3 * %5)
-- |     %7   #2  [4]  Apply (%4 + %6)
-- |   result  #2: dst, z = %7

-- case: push_selection_below_join stays above the side that an outer join fills
SELECT c.dst, sum(linear(p.x, 4)) AS z FROM cites c LEFT JOIN paper p ON p.id = c.src
WHERE p.year > 2000 AND c.kind = 'cites' GROUP BY c.dst;
-- | fired: fold_alias_into_map ×1, push_selection_below_join ×1, pull_linear_above_sum ×1, merge_maps ×1
-- | π Map (dst)
-- |     z = (linear(aggregate 0, 4, bias => false) + (count 0 * param(4)))  [4]
-- |   γ Aggregate by c.dst
-- |       aggregate 0 = sum(argument 1)
-- |       count 0 = count(argument 1)
-- |     π Map (c.dst, argument 1)
-- |       σ Select p.year > 2000
-- |         ⟕ Join p.id = c.src
-- |           σ Select c.kind = 'cites'
-- |             ρ Alias c
-- |               Scan cites (src, dst, kind)
-- |           π Map (p.id, p.year)
-- |               p.x = x  [32]
-- |             Scan paper (id, year, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, id, year
-- |     #1  Rows of σ[p.year > 2000]((σ[c.kind = 'cites'](cites c) ⟕ #0 [p.id = c.src])) → c.dst, #0, sorted by c.dst
-- |     #2  Groups of #1 by c.dst
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #1  [32]  Gather %0 by #0
-- |     %2   #2  [32]  SegmentReduce sum %1
-- |     %3   #2  [1]  SegmentReduce count %1
-- |     %4   #2  [4]  MatMul linear(%2, 4, bias => false)  m.linear_0.weight
-- |     %5   #2  [4]  Learned param(4)
-- |     %6   #2  [4]  Apply (%3 * %5)
-- |     %7   #2  [4]  Apply (%4 + %6)
-- |   result  #2: dst, z = %7

-- case: a left join to groups is not made where nothing reads them
SELECT p.id, linear(p.x, 4) AS z
FROM paper p
     LEFT JOIN (SELECT c.dst AS id, c.dst AS twin, sum(linear(c.w, 4)) AS z FROM cites c GROUP BY c.dst) g
     ON g.twin = p.id;
-- | fired: fold_alias_into_map ×1, merge_maps ×1
-- | π Map (id)
-- |     z = linear(x, 4)  [4]
-- |   Scan paper (id, x)
-- |   rows, numbered once
-- |     #0  Rows of paper → x, id
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #0  [4]  MatMul linear(%0, 4)  m.linear_0.weight
-- |   result  #0: id, z = %1

-- case: a left join stays where a row may meet several, an inner one as it drops rows
WITH pairs AS (SELECT c.dst, c.src, sum(linear(c.w, 4)) AS z FROM cites c GROUP BY c.dst, c.src)
SELECT p.id, linear(p.x, 4) AS z
FROM paper p LEFT JOIN pairs g ON g.dst = p.id
     JOIN (SELECT c.dst AS id, sum(linear(c.w, 4)) AS z FROM cites c GROUP BY c.dst) h ON h.id = p.id;
-- | fired: fold_alias_into_map ×3, push_term_below_join ×2, merge_maps ×1
-- | π Map (id, z)
-- |   ⋈ Join h.id = p.id
-- |     π Map (p.id, term 0)
-- |       ⟕ Join g.dst = p.id
-- |         π Map (p.id)
-- |             term 0 = linear(x, 4)  [4]
-- |           Scan paper (id, x)
-- |         π Map (g.dst)
-- |           γ Aggregate by c.dst, c.src
-- |             π Map (c.dst, c.src)
-- |               ρ Alias c  [shared 1]
-- |                 Scan cites (src, dst)
-- |     π Map (h.id)
-- |       γ Aggregate by c.dst
-- |         π Map (c.dst)
-- |           ↑ shared 1
-- |   rows, numbered once
-- |     #0  Rows of paper → x, id
-- |     #1  Rows of ((#0 ⟕ γ[c.dst, c.src](cites c) [g.dst = p.id]) ⋈ γ[c.dst](cites c) [h.id = p.id]) → id, #0
-- |   numbers, every epoch
-- |     %0   #0  [32]  Lift x
-- |     %1   #0  [4]  MatMul linear(%0, 4)  m.linear_0.weight
-- |     %2   #1  [4]  Gather %1 by #0
-- |   result  #1: id, z = %2
