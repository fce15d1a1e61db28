-- case: a learned column
CREATE MODEL m OPTIONS (head = 'gbdt', label = 'bit') AS
SELECT a, bit, linear(x, 2) AS z FROM t;
-- | line 1, column 32: head = 'gbdt' learns from columns that the database computes, and `z` is learned; trees have no gradient to train it with. Leave it out, or leave `head` out
-- |     CREATE MODEL m OPTIONS (head = 'gbdt', label = 'bit') AS
-- |                                    ^^^^^^

-- case: no learned column and no head
CREATE MODEL m OPTIONS (label = 'bit') AS SELECT a, bit FROM t;
-- | line 1, column 14: the model's output has no learned column; one of its columns must be the prediction, and a, bit are content. (OPTIONS (head = 'gbdt') learns from content.)
-- |     CREATE MODEL m OPTIONS (label = 'bit') AS SELECT a, bit FROM t
-- |                  ^

-- case: unknown head
CREATE MODEL m OPTIONS (head = 'gdbt', label = 'bit') AS SELECT a, bit FROM t;
-- | line 1, column 32: `head` is one of gbdt, not 'gdbt'. Did you mean `gbdt`?
-- |     CREATE MODEL m OPTIONS (head = 'gdbt', label = 'bit') AS SELECT a, bit FROM t
-- |                                    ^^^^^^

-- case: no label
CREATE MODEL m OPTIONS (head = 'gbdt') AS SELECT a, bit FROM t;
-- | line 1, column 14: a model needs a label to train: OPTIONS (label = …)
-- |     CREATE MODEL m OPTIONS (head = 'gbdt') AS SELECT a, bit FROM t
-- |                  ^

-- case: a list
CREATE MODEL m OPTIONS (head = 'gbdt', label = 'bit') AS SELECT a, [a] AS many, bit FROM t;
-- | line 1, column 14: trees split on numbers, times, texts and FLOAT[n], and `many` is BIGINT[]; cast it, take its parts as columns, or leave it out with OPTIONS (exclude = ['many'])
-- |     CREATE MODEL m OPTIONS (head = 'gbdt', label = 'bit') AS SELECT a, [a] AS many, bit FROM t
-- |                  ^

-- case: nothing to learn from
CREATE MODEL m OPTIONS (head = 'gbdt', label = 'bit', exclude = ['a']) AS SELECT a, bit FROM t;
-- | line 1, column 14: the output has no column to learn from beside label, split, keys and what `exclude` names; it has a, bit
-- |     CREATE MODEL m OPTIONS (head = 'gbdt', label = 'bit', exclude = ['a']) AS SELECT a, bit FROM t
-- |                  ^

-- case: an excluded column that is not there
CREATE MODEL m OPTIONS (head = 'gbdt', label = 'bit', exclude = ['aa', 'b']) AS SELECT a, b, bit FROM t;
-- | line 1, column 65: `exclude` names `aa`, which the output has not; it has a, b, bit. Did you mean `a`?
-- |     CREATE MODEL m OPTIONS (head = 'gbdt', label = 'bit', exclude = ['aa', 'b']) AS SELECT a, b, bit FROM t
-- |                                                                     ^^^^^^^^^^^

-- case: names that are not in a list
CREATE MODEL m OPTIONS (head = 'gbdt', label = 'bit', exclude = 3) AS SELECT a, b, bit FROM t;
-- | line 1, column 65: `exclude` takes names in a list, ['a', 'b'], not 3
-- |     CREATE MODEL m OPTIONS (head = 'gbdt', label = 'bit', exclude = 3) AS SELECT a, b, bit FROM t
-- |                                                                     ^

-- case: epochs of trees
CREATE MODEL m OPTIONS (head = 'gbdt', epochs = 3, label = 'bit') AS SELECT a, b, bit FROM t;
-- | line 1, column 40: `epochs` is for networks, not for head = 'gbdt'; trees have `rounds`
-- |     CREATE MODEL m OPTIONS (head = 'gbdt', epochs = 3, label = 'bit') AS SELECT a, b, bit FROM t
-- |                                            ^^^^^^

-- case: batches of trees
CREATE MODEL m OPTIONS (head = 'gbdt', batch_size = 3, label = 'bit') AS SELECT a, b, bit FROM t;
-- | line 1, column 40: `batch_size` is for networks, not for head = 'gbdt'
-- |     CREATE MODEL m OPTIONS (head = 'gbdt', batch_size = 3, label = 'bit') AS SELECT a, b, bit FROM t
-- |                                            ^^^^^^^^^^

-- case: rounds of a network
CREATE MODEL m OPTIONS (rounds = 3, label = 'num') AS SELECT num, linear(a, 1) AS z FROM t;
-- | line 1, column 25: `rounds` is for head = 'gbdt'; a network has `epochs`
-- |     CREATE MODEL m OPTIONS (rounds = 3, label = 'num') AS SELECT num, linear(a, 1) AS z FROM t
-- |                             ^^^^^^

-- case: leaves
CREATE MODEL m OPTIONS (head = 'gbdt', leaves = 1, label = 'bit') AS SELECT a, b, bit FROM t;
-- | line 1, column 49: `leaves` must be 2 or more, not 1
-- |     CREATE MODEL m OPTIONS (head = 'gbdt', leaves = 1, label = 'bit') AS SELECT a, b, bit FROM t
-- |                                                     ^

-- case: a share
CREATE MODEL m OPTIONS (head = 'gbdt', subsample = 1.5, label = 'bit') AS SELECT a, b, bit FROM t;
-- | line 1, column 52: `subsample` must be 1 or less, not 1.5
-- |     CREATE MODEL m OPTIONS (head = 'gbdt', subsample = 1.5, label = 'bit') AS SELECT a, b, bit FROM t
-- |                                                        ^^^

-- case: a column the label comes from
CREATE MODEL m OPTIONS (head = 'gbdt', label = 'y') AS SELECT a, b, a > 3 AS y FROM t;
-- | line 1, column 48: the feature `a` reads `a`, which the label `y` comes from; leave it out with exclude = ['a'], or compute the label in a sub-query if that is meant
-- |     CREATE MODEL m OPTIONS (head = 'gbdt', label = 'y') AS SELECT a, b, a > 3 AS y FROM t
-- |                                                    ^^^

-- case: bce of three classes
CREATE MODEL m OPTIONS (head = 'gbdt', label = 'word', loss = 'bce') AS SELECT a, b, word FROM t;
-- | bce tells two classes apart, and label `word` has 3 in the training rows; say loss = 'cross_entropy'

-- case: classes of a number
CREATE MODEL m OPTIONS (head = 'gbdt', label = 'y', loss = 'cross_entropy') AS SELECT a, b, num::DOUBLE AS y FROM t;
-- | line 1, column 60: cross_entropy tells classes apart, and `y` is DOUBLE; classes are text, boolean or whole numbers
-- |     CREATE MODEL m OPTIONS (head = 'gbdt', label = 'y', loss = 'cross_entropy') AS SELECT a, b, num::DOUBLE AS y FROM t
-- |                                                                ^^^^^^^^^^^^^^^

-- case: squared error of a text
CREATE MODEL m OPTIONS (head = 'gbdt', label = 'word', loss = 'mse') AS SELECT a, b, word FROM t;
-- | line 1, column 63: mse compares two numbers, but `word` is VARCHAR
-- |     CREATE MODEL m OPTIONS (head = 'gbdt', label = 'word', loss = 'mse') AS SELECT a, b, word FROM t
-- |                                                                   ^^^^^

-- case: a metric of numbers for classes
CREATE MODEL m OPTIONS (head = 'gbdt', label = 'bit', metric = 'rmse') AS SELECT a, b, bit FROM t;
-- | line 1, column 64: `rmse` is no metric of a model whose loss is bce; there are loss, accuracy, auroc, ap, f1, log_loss
-- |     CREATE MODEL m OPTIONS (head = 'gbdt', label = 'bit', metric = 'rmse') AS SELECT a, b, bit FROM t
-- |                                                                    ^^^^^^
