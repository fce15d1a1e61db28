-- A wholesaler's invoices of one year, December 2010 to December 2011. Lines without a customer are
-- left out: a fifth of all, and part of no path from a customer.
DELETE FROM lines WHERE invoiceId IN (SELECT invoiceId FROM invoices WHERE CustomerID IS NULL);
DELETE FROM invoices WHERE CustomerID IS NULL;
-- An invoice's number is its key once more.
ALTER TABLE invoices DROP COLUMN InvoiceNo;
ALTER TABLE products DROP COLUMN StockCode;

-- Does a customer of the last 180 days buy nothing in the next 30?
CREATE TASK customer_churn OPTIONS (
    val = '2011-08-15', test = '2011-10-01', every = '15 days', start = '2011-01-15',
    regime = 'rolling', sample = [3000, 1500, 3000]) AS
PREDICT COUNT(invoices.*, 0, 30, days, WHERE invoices.cancelled = FALSE) = 0
FOR EACH customers.CustomerID
WHERE COUNT(invoices.*, -180, 0, days) > 0;

-- Does a customer of the last 180 days return something in the next 30?
CREATE TASK customer_returns OPTIONS (
    val = '2011-08-15', test = '2011-10-01', every = '15 days', start = '2011-01-15',
    regime = 'rolling', sample = [3000, 1500, 3000]) AS
PREDICT COUNT(invoices.*, 0, 30, days, WHERE invoices.cancelled = TRUE) > 0
FOR EACH customers.CustomerID
WHERE COUNT(invoices.*, -180, 0, days) > 0;

-- What does a customer of the last 60 days spend in the next 30, as ln(1 + pounds)?
CREATE TASK customer_spend OPTIONS (
    entity = 'CustomerID', time = 'anchor', label = 'spend', table = 'customers',
    val = '2011-08-15', test = '2011-10-01', horizon = '30 days', regime = 'rolling',
    sample = [3000, 1500, 3000]) AS
SELECT a.anchor, i.CustomerID, ln(1 + greatest(0, coalesce(
    sum(l.Quantity * l.UnitPrice) FILTER (WHERE l.InvoiceDate > a.anchor), 0))) AS spend
FROM (VALUES (TIMESTAMP '2011-02-01'), ('2011-02-15'), ('2011-03-01'), ('2011-03-15'),
             ('2011-04-01'), ('2011-04-15'), ('2011-05-01'), ('2011-05-15'), ('2011-06-01'),
             ('2011-06-15'), ('2011-07-01'), ('2011-07-15'), ('2011-08-15'), ('2011-08-31'),
             ('2011-10-01'), ('2011-10-15'), ('2011-11-01')) a(anchor)
JOIN lines l ON l.InvoiceDate > a.anchor - INTERVAL 60 DAY
    AND l.InvoiceDate <= a.anchor + INTERVAL 30 DAY
JOIN invoices i USING (invoiceId)
GROUP BY ALL
HAVING count(*) FILTER (WHERE l.InvoiceDate <= a.anchor) > 0;

-- How much of a product that sold in the last 60 days sells in the next 14, as ln(1 + pieces)?
CREATE TASK product_sales OPTIONS (
    entity = 'productId', time = 'anchor', label = 'sales', table = 'products',
    val = '2011-08-15', test = '2011-10-01', horizon = '14 days', regime = 'rolling',
    sample = [3000, 1500, 3000]) AS
SELECT a.anchor, l.productId, ln(1 + greatest(0, coalesce(
    sum(l.Quantity) FILTER (WHERE l.InvoiceDate > a.anchor), 0))) AS sales
FROM (VALUES (TIMESTAMP '2011-02-01'), ('2011-03-01'), ('2011-04-01'), ('2011-05-01'),
             ('2011-06-01'), ('2011-07-01'), ('2011-08-01'), ('2011-08-15'), ('2011-09-01'),
             ('2011-09-15'), ('2011-10-01'), ('2011-10-15'), ('2011-11-01'), ('2011-11-15')) a(anchor)
JOIN lines l ON l.InvoiceDate > a.anchor - INTERVAL 60 DAY
    AND l.InvoiceDate <= a.anchor + INTERVAL 14 DAY
GROUP BY ALL
HAVING count(*) FILTER (WHERE l.InvoiceDate <= a.anchor) > 0;
