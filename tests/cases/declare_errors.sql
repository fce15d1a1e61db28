-- case: unknown table
ALTER TABLE custmers SET (key = 'id');
-- | line 1, column 13: there is no table `custmers` in this database. Did you mean `customers`?
-- |     ALTER TABLE custmers SET (key = 'id')
-- |                 ^^^^^^^^

-- case: unknown column
ALTER TABLE customers SET (time = 'creatd_at');
-- | line 1, column 35: `customers` has no column `creatd_at`; it has id, email, created_at. Did you mean `created_at`?
-- |     ALTER TABLE customers SET (time = 'creatd_at')
-- |                                       ^^^^^^^^^^^

-- case: unknown option beside one of ours
ALTER TABLE customers SET (key = 'id', tiem = 'created_at');
-- | line 1, column 40: SET takes key and time, not `tiem`
-- |     ALTER TABLE customers SET (key = 'id', tiem = 'created_at')
-- |                                            ^^^^

-- case: an option nearly ours
ALTER TABLE customers SET (tiem = 'created_at');
-- | line 1, column 28: there is no option `tiem`. Did you mean `time`?
-- |     ALTER TABLE customers SET (tiem = 'created_at')
-- |                                ^^^^

-- case: an option of another name
ALTER TABLE customers SET (primary_key = 'id');
-- | line 1, column 28: there is no option `primary_key`. Did you mean `key`?
-- |     ALTER TABLE customers SET (primary_key = 'id')
-- |                                ^^^^^^^^^^^

-- case: not a column's name
ALTER TABLE customers SET (key = 3);
-- | line 1, column 34: key takes the name of a column, or NULL
-- |     ALTER TABLE customers SET (key = 3)
-- |                                      ^

-- case: a key that repeats and is NULL
ALTER TABLE customers SET (key = 'email');
-- | line 1, column 34: `email` is no key of `customers`: it has 1 NULL and 1 row has the value of another
-- |     ALTER TABLE customers SET (key = 'email')
-- |                                      ^^^^^^^

-- case: a time that is text
ALTER TABLE customers SET (time = 'email');
-- | line 1, column 35: `email` is VARCHAR; a time is a DATE, TIMESTAMP or TIMESTAMPTZ
-- |     ALTER TABLE customers SET (time = 'email')
-- |                                       ^^^^^^^

-- case: nothing changes where one option is wrong
ALTER TABLE customers SET (key = 'id', time = 'email');
-- | line 1, column 47: `email` is VARCHAR; a time is a DATE, TIMESTAMP or TIMESTAMPTZ
-- |     ALTER TABLE customers SET (key = 'id', time = 'email')
-- |                                                   ^^^^^^^

-- case: foreign key of an unknown column
ALTER TABLE orders ADD FOREIGN KEY (custmer) REFERENCES customers;
-- | line 1, column 37: `orders` has no column `custmer`; it has order_id, customer, note, ts. Did you mean `customer`?
-- |     ALTER TABLE orders ADD FOREIGN KEY (custmer) REFERENCES customers
-- |                                         ^^^^^^^

-- case: foreign key to an unknown table
ALTER TABLE orders ADD FOREIGN KEY (customer) REFERENCES custmers;
-- | line 1, column 58: there is no table `custmers` in this database. Did you mean `customers`?
-- |     ALTER TABLE orders ADD FOREIGN KEY (customer) REFERENCES custmers
-- |                                                              ^^^^^^^^

-- case: foreign key to an unknown column
ALTER TABLE orders ADD FOREIGN KEY (customer) REFERENCES customers (idd);
-- | line 1, column 69: `customers` has no column `idd`; it has id, email, created_at. Did you mean `id`?
-- |     ALTER TABLE orders ADD FOREIGN KEY (customer) REFERENCES customers (idd)
-- |                                                                         ^^^

-- case: foreign key to a table without a key
ALTER TABLE orders ADD FOREIGN KEY (customer) REFERENCES visits;
-- | line 1, column 58: no key of `visits` is known; name it: REFERENCES visits (column)
-- |     ALTER TABLE orders ADD FOREIGN KEY (customer) REFERENCES visits
-- |                                                              ^^^^^^

-- case: foreign key to a column that repeats
ALTER TABLE orders ADD FOREIGN KEY (customer) REFERENCES visits (customer);
-- | line 1, column 66: `customer` is no key of `visits`: 1 row has the value of another
-- |     ALTER TABLE orders ADD FOREIGN KEY (customer) REFERENCES visits (customer)
-- |                                                                      ^^^^^^^^

-- case: foreign key of another type
ALTER TABLE orders ADD FOREIGN KEY (note) REFERENCES customers (id);
-- | line 1, column 37: `note` is VARCHAR and `customers.id` is INTEGER: they cannot be equal
-- |     ALTER TABLE orders ADD FOREIGN KEY (note) REFERENCES customers (id)
-- |                                         ^^^^

-- case: foreign key to itself
ALTER TABLE customers ADD FOREIGN KEY (id) REFERENCES customers;
-- | line 1, column 40: `id` cannot refer to itself
-- |     ALTER TABLE customers ADD FOREIGN KEY (id) REFERENCES customers
-- |                                            ^^

-- case: foreign key of two columns
ALTER TABLE orders ADD FOREIGN KEY (customer, note) REFERENCES customers;
-- | line 1, column 45: a foreign key has one column here
-- |     ALTER TABLE orders ADD FOREIGN KEY (customer, note) REFERENCES customers
-- |                                                 ^

-- case: foreign key without REFERENCES
ALTER TABLE orders ADD FOREIGN KEY (customer) REFERNCES customers;
-- | line 1, column 47: expected REFERENCES and a table, found `REFERNCES`. Did you mean `REFERENCES`?
-- |     ALTER TABLE orders ADD FOREIGN KEY (customer) REFERNCES customers
-- |                                                   ^^^^^^^^^

-- case: dropping what is no foreign key
ALTER TABLE orders DROP FOREIGN KEY (note);
-- | line 1, column 38: `orders` has no foreign key `note`; it has none
-- |     ALTER TABLE orders DROP FOREIGN KEY (note)
-- |                                          ^^^^
